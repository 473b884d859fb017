#include "flat_histogram.hpp"

#include "../runtime/scratch.hpp"
#include "../runtime/threads.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t lanes = 8;                       // fields are added to in whole vectors
constexpr std::int64_t drawn_trials = 2 * block_lanes;  // of random words at a time

class Walker {
 public:
  // `padded`: couplings whose rows of `stride` end with zeros.
  Walker(const FlatHistogramArgs& args, std::int64_t number, const double* padded, std::int64_t stride)
      : args_(args),
        number_(static_cast<std::uint32_t>(number)),
        couplings_(padded),
        stride_(stride),
        spins_(args.spins + number * args.n_spins),
        log_g_(args.log_g + number * args.n_levels),
        histogram_(args.histogram + number * args.n_levels),
        visited_(args.visited + number * args.n_levels),
        field_(stride) {
    for (std::int64_t j = 0; j < stride; ++j) field_[j] = 0;
    for (std::int64_t i = 0; i < args.n_spins; ++i) add_row(i, spins_[i]);
    double energy = 0;
    for (std::int64_t i = 0; i < args.n_spins; ++i) {
      energy -= (0.5 * field_[i] + args.fields[i]) * spins_[i];
      field_[i] += args.fields[i];
    }
    energy_ = energy;
    level_ = level(energy);
    visited_[level_] = 1;
  }

  void run() {
    std::uint8_t& way = args_.way[number_];
    std::int64_t& trips = args_.trips[number_];
    for (std::int64_t t = 0; t < args_.n_sweeps; ++t) {
      if (t % 64 == 0) runtime::check_interrupt();
      const std::int64_t sweep = args_.first_sweep + t;
      const double n_trials = static_cast<double>(sweep + 1) * static_cast<double>(args_.n_spins);
      const double f = args_.decay[number_] > 0 ? args_.decay[number_] / n_trials : args_.increment[number_];
      for (std::int64_t first = 0; first < args_.n_spins; first += drawn_trials) {
        std::uint32_t words[group_words];
        draw_lanes(numerics::draw_counter(static_cast<std::uint32_t>(first / 2), number_,
                                          static_cast<std::uint64_t>(sweep), numerics::Stream::flat_histogram),
                   numerics::key_from(args_.seed), words);
        for (std::int64_t k = 0; k < drawn_trials && first + k < args_.n_spins; ++k) {
          const std::uint32_t* of_trial = words + k % 2 * 2 * block_lanes + k / 2;
          turn(of_trial[0], of_trial[block_lanes]);
          log_g_[level_] += f;
          ++histogram_[level_];
          if (level_ <= args_.low && way != 1) {
            if (way == 2) ++trips;
            way = 1;
          } else if (level_ >= args_.high && way == 1) {
            way = 2;
          }
        }
      }
    }
  }

 private:
  std::int64_t level(double energy) const {
    const double at = energy + args_.offset;
    const std::int64_t last = args_.n_levels - 1;
    return at >= static_cast<double>(last) ? last : at > 0 ? static_cast<std::int64_t>(at) : 0;
  }

  void turn(std::uint32_t which, std::uint32_t chance) {
    const auto i = static_cast<std::int64_t>(std::uint64_t{which} * static_cast<std::uint64_t>(args_.n_spins) >> 32);
    const double after = energy_ + 2 * spins_[i] * field_[i];
    const std::int64_t there = level(after);
    if (visited_[there] == 0) {
      visited_[there] = 1;
      log_g_[there] = log_g_[level_];
    }
    const double gain = log_g_[level_] - log_g_[there];
    if (gain < 0 && (static_cast<double>(chance) + 0.5) * 0x1p-32 >= numerics::exp(gain)) return;
    spins_[i] = static_cast<std::int8_t>(-spins_[i]);
    energy_ = after;
    level_ = there;
    add_row(i, 2.0 * spins_[i]);
  }

  void add_row(std::int64_t i, double times) {
    const double* __restrict row = couplings_ + i * stride_;
    double* __restrict field = field_.data();
    for (std::int64_t j = 0; j < stride_; j += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) field[j + l] += times * row[j + l];
    }
  }

  const FlatHistogramArgs& args_;
  const std::uint32_t number_;
  const double* couplings_;
  const std::int64_t stride_;
  std::int8_t* spins_;
  double* log_g_;
  std::uint64_t* histogram_;
  std::uint8_t* visited_;
  const runtime::Buffer<double> field_;
  double energy_;
  std::int64_t level_;
};

}  // namespace

void flat_histogram(const FlatHistogramArgs& args) {
  const std::int64_t n = args.n_spins, stride = (n + lanes - 1) / lanes * lanes;
  const runtime::Buffer<double> couplings(n * stride);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < stride; ++j) {
      couplings[i * stride + j] = j < n && j != i ? args.couplings[i * n + j] : 0;
    }
  }
  const double of_trial = 20.0 + static_cast<double>(n) / 16.0;
  const double nanoseconds =
      static_cast<double>(args.n_walkers) * static_cast<double>(args.n_sweeps) * static_cast<double>(n) * of_trial;
  runtime::parallel_for(args.n_walkers, nanoseconds, args.num_threads,
                        [&](std::int64_t w) { Walker(args, w, couplings.data(), stride).run(); });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
