#include "exact_ising.hpp"

#include "../numerics/elementary.hpp"
#include "../numerics/ising.hpp"
#include "../runtime/scratch.hpp"
#include "../runtime/threads.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::IsingModel;
using numerics::spin_of;
using numerics::SpinGroup;
using runtime::Buffer;

constexpr std::int64_t lanes = 8;

struct Problem {
  IsingModel model;
  double beta, energy;
  SpinGroup a, b, c;
  std::int64_t pitch;          // of rows over the states c, padded with weights of 0
  Buffer<double> y, y_energy;  // (2^b, pitch); the energy for the variance alone

  explicit Problem(const ExactIsingArgs& args)
      : model{args.n_spins, args.couplings, args.fields},
        beta(args.beta),
        energy(args.energy),
        a(numerics::spin_group(args.n_spins, 0)),
        b(numerics::spin_group(args.n_spins, 1)),
        c(numerics::spin_group(args.n_spins, 2)),
        pitch(c.n_states() < lanes ? lanes : c.n_states()),
        y(b.n_states() * pitch),
        y_energy(args.what == IsingSums::variance ? b.n_states() * pitch : 0) {
    const double numbers = static_cast<double>(b.n_states() * pitch);
    runtime::parallel_for(b.n_states(), 50.0 * numbers, args.num_threads, [&](std::int64_t of_b) {
      runtime::check_interrupt();
      const double own = model.energy_within(b, of_b);
      for (std::int64_t of_c = 0; of_c < pitch; ++of_c) {
        const bool is_state = of_c < c.n_states();
        const double energy_bc = is_state ? own + model.energy_between(b, of_b, c, of_c) : 0;
        y[of_b * pitch + of_c] = is_state ? numerics::exp(-beta * energy_bc) : 0;
        if (args.what == IsingSums::variance) y_energy[of_b * pitch + of_c] = energy_bc;
      }
    });
  }
};

double sum_of(const double* values, std::int64_t count) {
  double sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum += values[k];
  return sum;
}

// sum w s_i of a group's states.
void add_spins(const double* weights, const SpinGroup& group, double* sums) {
  for (std::int64_t i = 0; i < group.count; ++i) {
    double sum = 0;
    for (std::int64_t state = 0; state < group.n_states(); ++state) sum += weights[state] * spin_of(state, i);
    sums[i] += sum;
  }
}

// The same of a single state.
void add_spins(double weight, const SpinGroup& group, std::int64_t state, double* sums) {
  for (std::int64_t i = 0; i < group.count; ++i) sums[i] += weight * spin_of(state, i);
}

// A range, state by state of the first group.
class Range {
 public:
  Range(const Problem& problem, IsingSums what)
      : problem_(problem),
        c_states_(problem.pitch),
        b_states_(problem.b.n_states()),
        v_(c_states_),
        v_energy_(c_states_),
        x_(b_states_),
        x_energy_(b_states_),
        of_ab_(b_states_),
        of_ca_(c_states_),
        of_bc_(what == IsingSums::moments ? b_states_ * c_states_ : 0) {}

  void log_z(std::int64_t first, std::int64_t count, double* sums) {
    for (std::int64_t of_a = first; of_a < first + count; ++of_a) {
      set(of_a);
      clear(of_ca_, c_states_);
      for (std::int64_t k = 0; k < b_states_; ++k) {
        const double x = x_[k];
        const double* y = problem_.y.data() + k * c_states_;
        double* to = of_ca_.data();
        for (std::int64_t l = 0; l < c_states_; ++l) to[l] += x * y[l];
      }
      double sum[lanes] = {};
      for (std::int64_t l = 0; l < c_states_; l += lanes) {
        for (std::int64_t j = 0; j < lanes; ++j) sum[j] += of_ca_[l + j] * v_[l + j];
      }
      sums[1] += sum_of(sum, lanes);
    }
  }

  void variance(std::int64_t first, std::int64_t count, double* sums) {
    for (std::int64_t of_a = first; of_a < first + count; ++of_a) {
      set(of_a);
      double sum[lanes] = {}, squares[lanes] = {};
      for (std::int64_t k = 0; k < b_states_; ++k) {
        const double *y = problem_.y.data() + k * c_states_, *energy = problem_.y_energy.data() + k * c_states_;
        for (std::int64_t l = 0; l < c_states_; l += lanes) {
          for (std::int64_t j = 0; j < lanes; ++j) {
            const double w = x_[k] * y[l + j] * v_[l + j], e = x_energy_[k] + energy[l + j] + v_energy_[l + j];
            sum[j] += w, squares[j] += w * e * e;
          }
        }
      }
      sums[1] += sum_of(sum, lanes), sums[2] += sum_of(squares, lanes);
    }
  }

  void moments(std::int64_t first, std::int64_t count, double* sums) {
    const SpinGroup &a = problem_.a, &b = problem_.b, &c = problem_.c;
    const std::int64_t n = problem_.model.n;
    double *spins = sums + 2, *pairs = spins + n;
    clear(of_bc_, b_states_ * c_states_);
    const Buffer<double> of_spins(n);
    for (std::int64_t of_a = first; of_a < first + count; ++of_a) {
      set(of_a);
      add_weights();
      const double total = sum_of(of_ab_.data(), b_states_);
      clear(of_spins, n);
      add_spins(of_ab_.data(), b, of_spins.data() + b.first);
      add_spins(of_ca_.data(), c, of_spins.data() + c.first);
      sums[1] += total;
      add_spins(total, a, of_a, spins);
      for (std::int64_t i = 0; i < a.count; ++i) {
        const double s = spin_of(of_a, i);
        add_spins(s * total, a, of_a, pairs + i * n);
        for (std::int64_t j = b.first; j < n; ++j) pairs[i * n + j] += s * of_spins[j];
      }
    }
    for (std::int64_t k = 0; k < b_states_; ++k) {
      clear(of_spins, n);
      const double* weights = of_bc_.data() + k * c_states_;
      const double total = sum_of(weights, c.n_states());
      add_spins(weights, c, of_spins.data() + c.first);
      add_spins(total, b, k, spins + b.first);
      for (std::int64_t i = 0; i < b.count; ++i) {
        double* row = pairs + (b.first + i) * n;
        add_spins(spin_of(k, i) * total, b, k, row + b.first);
        for (std::int64_t j = c.first; j < n; ++j) row[j] += spin_of(k, i) * of_spins[j];
      }
    }
    for (std::int64_t l = 0; l < c.n_states(); ++l) {
      double total = 0;
      for (std::int64_t k = 0; k < b_states_; ++k) total += of_bc_[k * c_states_ + l];
      add_spins(total, c, l, spins + c.first);
      for (std::int64_t i = 0; i < c.count; ++i) {
        add_spins(spin_of(l, i) * total, c, l, pairs + (c.first + i) * n + c.first);
      }
    }
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < i; ++j) pairs[i * n + j] = pairs[j * n + i];
    }
  }

 private:
  static void clear(const Buffer<double>& buffer, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) buffer[k] = 0;
  }

  // X and V of a state of the first group.
  void set(std::int64_t of_a) {
    runtime::check_interrupt();
    const auto& [model, beta, energy, a, b, c, pitch, y, y_energy] = problem_;
    const double own = model.energy_within(a, of_a);
    for (std::int64_t k = 0; k < b_states_; ++k) {
      const double of_x = own + model.energy_between(a, of_a, b, k);
      x_[k] = numerics::exp(-beta * of_x);
      x_energy_[k] = of_x - energy;
    }
    for (std::int64_t l = 0; l < c_states_; ++l) {
      const bool is_state = l < c.n_states();
      v_energy_[l] = is_state ? model.energy_within(c, l) + model.energy_between(c, l, a, of_a) : 0;
      v_[l] = is_state ? numerics::exp(-beta * v_energy_[l]) : 0;
    }
  }

  // The weights of all states with this one, added up over the third group, or to those before.
  void add_weights() {
    clear(of_ca_, c_states_);
    for (std::int64_t k = 0; k < b_states_; ++k) {
      const double x = x_[k];
      const double *y = problem_.y.data() + k * c_states_, *v = v_.data();
      double *of_bc = of_bc_.data() + k * c_states_, *of_ca = of_ca_.data(), sum[lanes] = {};
      for (std::int64_t l = 0; l < c_states_; l += lanes) {
        for (std::int64_t j = 0; j < lanes; ++j) {
          const double w = x * (y[l + j] * v[l + j]);
          sum[j] += w, of_ca[l + j] += w, of_bc[l + j] += w;
        }
      }
      of_ab_[k] = sum_of(sum, lanes);
    }
  }

  const Problem& problem_;
  std::int64_t c_states_, b_states_;
  Buffer<double> v_, v_energy_, x_, x_energy_, of_ab_, of_ca_, of_bc_;
};

}  // namespace

void exact_ising(const ExactIsingArgs& args) {
  const Problem problem(args);
  const std::int64_t size = exact_ising_sums(args.n_spins, args.what);
  const double states = static_cast<double>(args.n_ranges * args.range_states) *
                        static_cast<double>(problem.b.n_states() * problem.c.n_states());
  runtime::parallel_for(args.n_ranges, states, args.num_threads, [&](std::int64_t k) {
    double* sums = args.sums + k * size;
    for (std::int64_t l = 0; l < size; ++l) sums[l] = 0;
    const std::int64_t first = (args.first_range + k) * args.range_states;
    Range range(problem, args.what);
    switch (args.what) {
      case IsingSums::log_z:
        return range.log_z(first, args.range_states, sums);
      case IsingSums::moments:
        return range.moments(first, args.range_states, sums);
      case IsingSums::variance:
        return range.variance(first, args.range_states, sums);
    }
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
