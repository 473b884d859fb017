#include "exact_rbm.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "rbm_product.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::LogSumExp;
using runtime::Buffer;

constexpr std::int64_t lanes = 8;
constexpr std::int64_t units_per_log = 512;       // a product of 512 factors <= 2 fits a double
constexpr std::int64_t low_table_size = 1 << 14;  // numbers in the table of low states: 128 kB
constexpr std::int64_t max_low_bits = 8;
constexpr std::int64_t max_ranges = 32;
constexpr double absent = -1e300;  // the field of a padding unit: its factor is exactly 1

// The machine in float64 with the enumerated layer s first; beta is inside, and the units of the
// other layer are padded to whole lanes.
struct Problem {
  std::int64_t n, m, padded;
  std::int64_t low_bits, n_low, n_high;
  Buffer<double> weights;     // (n, padded)
  Buffer<double> bias;        // (n,)
  Buffer<double> other_bias;  // (padded,)
  Buffer<double> low_field;   // (n_low, padded): sum over the low bits
  Buffer<double> low_bias;    // (n_low,)

  explicit Problem(const RbmView& rbm, double beta)
      : n(rbm.n_visible),
        m(rbm.n_hidden),
        padded(ceil_div(m, lanes) * lanes),
        low_bits(choose_low_bits(n, padded)),
        n_low(std::int64_t{1} << low_bits),
        n_high(std::int64_t{1} << (n - low_bits)),
        weights(n * padded),
        bias(n),
        other_bias(padded),
        low_field(n_low * padded),
        low_bias(n_low) {
    rbm.real == Real::float32 ? fill<float>(rbm, beta) : fill<double>(rbm, beta);
    for (std::int64_t j = 0; j < padded; ++j) low_field[j] = 0;
    low_bias[0] = 0;
    for (std::int64_t i = 0; i < low_bits; ++i) {
      const std::int64_t known = std::int64_t{1} << i;
      for (std::int64_t l = 0; l < known; ++l) {
        low_bias[known + l] = low_bias[l] + bias[i];
        for (std::int64_t j = 0; j < padded; ++j) {
          low_field[(known + l) * padded + j] = low_field[l * padded + j] + weights[i * padded + j];
        }
      }
    }
  }

  static std::int64_t choose_low_bits(std::int64_t n, std::int64_t padded) {
    std::int64_t bits = 1;
    while (bits < n && bits < max_low_bits && (padded << (bits + 1)) <= low_table_size) ++bits;
    return bits;
  }

  template <class T>
  void fill(const RbmView& rbm, double beta) {
    const T* source = static_cast<const T*>(rbm.weights);
    for (std::int64_t i = 0; i < n; ++i) {
      bias[i] = beta * static_cast<double>(static_cast<const T*>(rbm.visible_bias)[i]);
      for (std::int64_t j = 0; j < padded; ++j) {
        weights[i * padded + j] =
            j < m ? beta * static_cast<double>(source[i * rbm.visible_stride + j * rbm.hidden_stride]) : 0.0;
      }
    }
    for (std::int64_t j = 0; j < padded; ++j) {
      other_bias[j] = j < m ? beta * static_cast<double>(static_cast<const T*>(rbm.hidden_bias)[j]) : absent;
    }
  }

  VFE_HD bool high_bit(std::int64_t high, std::int64_t i) const { return (high >> (i - low_bits)) & 1; }
};

VFE_HD void scale(double* values, std::int64_t count, double factor) {
  for (std::int64_t k = 0; k < count; ++k) values[k] = factor == 0.0 ? 0.0 : values[k] * factor;
}

// What one range of states, or all ranges up to one, add up to, as multiples of e^total.reference.
// Without moments the arrays are empty.
struct Sums {
  LogSumExp total;
  std::int64_t n, padded;
  double* units;   // (n,): sum w s_i
  double* others;  // (padded,): sum w sigma_j
  double* pairs;   // (n, padded): sum w s_i sigma_j

  VFE_HD static std::int64_t size(std::int64_t n, std::int64_t padded) { return n + padded + n * padded; }
  VFE_HD static Sums zero(std::int64_t n, std::int64_t padded, double* memory) {
    scale(memory, size(n, padded), 0.0);
    return {LogSumExp(), n, padded, memory, memory + n, memory + n + padded};
  }
  VFE_HD void rescale(double factor) { scale(units, size(n, padded), factor); }
  VFE_HD void merge(const Sums& later) {
    const double factor = total.make_room(later.total.reference);
    if (factor != 1.0) rescale(factor);
    const double weight = numerics::exp(later.total.reference - total.reference);
    total.sum += weight * later.total.sum;
    for (std::int64_t k = 0; k < size(n, padded); ++k) units[k] += weight * later.units[k];
  }
};

// sum_j softplus(high_j + low_j); the means sigmoid(high_j + low_j) on the way.
template <bool moments>
VFE_HD double log_weight(const double* __restrict high, const double* __restrict low, double* __restrict mean,
                         std::int64_t padded) {
  double logs = 0;
  double positive[lanes] = {};
  for (std::int64_t begin = 0; begin < padded; begin += units_per_log) {
    const std::int64_t count = padded - begin < units_per_log ? padded - begin : units_per_log;
    double factor[units_per_log], rectified[units_per_log];
    for (std::int64_t j = 0; j < count; ++j) {
      const double x = high[begin + j] + low[begin + j];
      const double decay = numerics::exp_negative(-numerics::magnitude(x));
      factor[j] = 1.0 + decay;
      rectified[j] = x > 0.0 ? x : 0.0;
      if constexpr (moments) mean[begin + j] = (x < 0.0 ? decay : 1.0) / (1.0 + decay);
    }
    double product[lanes] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (std::int64_t j = 0; j < count; j += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) product[l] *= factor[j + l];
      for (std::int64_t l = 0; l < lanes; ++l) positive[l] += rectified[j + l];
    }
    double all = 1;
    for (std::int64_t l = 0; l < lanes; ++l) all *= product[l];
    logs += numerics::log(all);
  }
  for (std::int64_t l = 0; l < lanes; ++l) logs += positive[l];
  return logs;
}

template <bool moments>
void sum_range(const Problem& p, std::int64_t first_high, std::int64_t last_high, Sums& sums) {
  const Buffer<double> field(p.padded), mean(p.padded), block_others(p.padded);
  const Buffer<double> low_weight(p.n_low), low_others(moments ? p.n_low * p.padded : 0);
  for (std::int64_t l = 0; l < p.n_low; ++l) low_weight[l] = 0;
  if constexpr (moments) {
    for (std::int64_t k = 0; k < p.n_low * p.padded; ++k) low_others[k] = 0;
  }
  for (std::int64_t high = first_high; high < last_high; ++high) {
    runtime::check_interrupt();
    double high_bias = 0, block_weight = 0;
    for (std::int64_t j = 0; j < p.padded; ++j) {
      field[j] = p.other_bias[j];
      block_others[j] = 0;
    }
    for (std::int64_t i = p.low_bits; i < p.n; ++i) {
      if (!p.high_bit(high, i)) continue;
      high_bias += p.bias[i];
      for (std::int64_t j = 0; j < p.padded; ++j) field[j] += p.weights[i * p.padded + j];
    }
    for (std::int64_t l = 0; l < p.n_low; ++l) {
      const double exponent =
          high_bias + p.low_bias[l] +
          log_weight<moments>(field.data(), p.low_field.data() + l * p.padded, mean.data(), p.padded);
      const double factor = sums.total.make_room(exponent);
      if (factor != 1.0) [[unlikely]] {
        block_weight *= factor;
        scale(low_weight.data(), p.n_low, factor);
        if constexpr (moments) {
          sums.rescale(factor);
          scale(block_others.data(), p.padded, factor);
          scale(low_others.data(), p.n_low * p.padded, factor);
        }
      }
      const double weight = numerics::exp(exponent - sums.total.reference);
      block_weight += weight;
      low_weight[l] += weight;
      if constexpr (moments) {
        double* __restrict by_low = low_others.data() + l * p.padded;
        double* __restrict by_block = block_others.data();
        const double* __restrict means = mean.data();
        for (std::int64_t j = 0; j < p.padded; ++j) {
          const double share = weight * means[j];
          by_low[j] += share;
          by_block[j] += share;
        }
      }
    }
    sums.total.sum += block_weight;
    if constexpr (!moments) continue;
    for (std::int64_t j = 0; j < p.padded; ++j) sums.others[j] += block_others[j];
    for (std::int64_t i = p.low_bits; i < p.n; ++i) {
      if (!p.high_bit(high, i)) continue;
      sums.units[i] += block_weight;
      for (std::int64_t j = 0; j < p.padded; ++j) sums.pairs[i * p.padded + j] += block_others[j];
    }
  }
  if constexpr (!moments) return;
  for (std::int64_t i = 0; i < p.low_bits; ++i) {
    for (std::int64_t l = 0; l < p.n_low; ++l) {
      if (((l >> i) & 1) == 0) continue;
      sums.units[i] += low_weight[l];
      for (std::int64_t j = 0; j < p.padded; ++j) sums.pairs[i * p.padded + j] += low_others[l * p.padded + j];
    }
  }
}

// Moments of the enumerated (s) and the other (t) layer, in the order of the caller's RBM.
void write_moments(const ExactRbmArgs& args, const Sums& sums, bool visible_enumerated) {
  double* units = visible_enumerated ? args.visible : args.hidden;
  double* others = visible_enumerated ? args.hidden : args.visible;
  const std::int64_t n = sums.n, m = visible_enumerated ? args.rbm.n_hidden : args.rbm.n_visible;
  for (std::int64_t i = 0; i < n; ++i) units[i] = sums.units[i] / sums.total.sum;
  for (std::int64_t j = 0; j < m; ++j) others[j] = sums.others[j] / sums.total.sum;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < m; ++j) {
      args.visible_hidden[visible_enumerated ? i * m + j : j * n + i] =
          sums.pairs[i * sums.padded + j] / sums.total.sum;
    }
  }
}

template <class T>
double mean_energy(const ExactRbmArgs& args) {
  const RbmView& rbm = args.rbm;
  double energy = 0;
  for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
    energy -= static_cast<double>(static_cast<const T*>(rbm.visible_bias)[i]) * args.visible[i];
    for (std::int64_t j = 0; j < rbm.n_hidden; ++j) {
      const T weight = static_cast<const T*>(rbm.weights)[i * rbm.visible_stride + j * rbm.hidden_stride];
      energy -= static_cast<double>(weight) * args.visible_hidden[i * rbm.n_hidden + j];
    }
  }
  for (std::int64_t j = 0; j < rbm.n_hidden; ++j) {
    energy -= static_cast<double>(static_cast<const T*>(rbm.hidden_bias)[j]) * args.hidden[j];
  }
  return energy;
}

// ln Z alone, in product form.
double log_z_of(const ProductForm& form, int num_threads) {
  const std::int64_t n_groups = form.n_high / product_group;
  const std::int64_t n_ranges = n_groups < max_ranges ? n_groups : max_ranges;
  const std::int64_t range_size = form.n_high / n_ranges;
  const Buffer<ScaledSum> ranges(n_ranges);
  const auto do_range = [&](std::int64_t r) { ranges[r] = sum_products(form, r * range_size, (r + 1) * range_size); };
  const double work = static_cast<double>(form.n_high) * static_cast<double>(form.n_low * form.m) / 8.0;
  runtime::parallel_for(n_ranges, work, num_threads, do_range);
  ScaledSum all = ranges[0];
  for (std::int64_t r = 1; r < n_ranges; ++r) all.add(ranges[r]);
  return static_cast<double>(all.reference) * ln2 + numerics::log(all.sum);
}

}  // namespace

void exact_rbm(const ExactRbmArgs& args) {
  const bool visible_enumerated = args.rbm.n_visible <= args.rbm.n_hidden;
  const bool moments = args.visible != nullptr;
  const Problem problem(visible_enumerated ? args.rbm : args.rbm.transposed(), args.beta);

  const ProductForm form(problem.n, problem.m, problem.padded, problem.weights.data(), problem.bias.data(),
                         problem.other_bias.data());
  *args.product_form = form.usable;
  if (form.usable) {
    *args.log_z = log_z_of(form, args.num_threads);
    if (!moments) return;
  }

  const std::int64_t n_ranges = problem.n_high < max_ranges ? problem.n_high : max_ranges;  // both powers of two
  const std::int64_t range_size = problem.n_high / n_ranges;
  const std::int64_t n = moments ? problem.n : 0, padded = moments ? problem.padded : 0;
  const Buffer<double> memory(n_ranges * Sums::size(n, padded));
  const Buffer<Sums> ranges(n_ranges);
  const auto do_range = [&](std::int64_t r) {
    ranges[r] = Sums::zero(n, padded, memory.data() + r * Sums::size(n, padded));
    const auto sum = moments ? sum_range<true> : sum_range<false>;
    sum(problem, r * range_size, (r + 1) * range_size, ranges[r]);
  };
  const double work = static_cast<double>(problem.n_high) * static_cast<double>(problem.n_low * problem.padded);
  runtime::parallel_for(n_ranges, work, args.num_threads, do_range);

  Sums& all = ranges[0];
  for (std::int64_t r = 1; r < n_ranges; ++r) all.merge(ranges[r]);
  if (!form.usable) *args.log_z = all.total.value();
  if (!moments) return;
  write_moments(args, all, visible_enumerated);
  *args.energy = args.rbm.real == Real::float32 ? mean_energy<float>(args) : mean_energy<double>(args);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
