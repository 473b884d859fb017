#include "flat_histogram.hpp"

#include "../runtime/scratch.hpp"
#include "../runtime/threads.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t lanes = 8;                       // fields are added to in whole vectors
constexpr std::int64_t drawn_trials = 2 * block_lanes;  // of random words at a time
// Walkers that take their trials side by side: while one waits for a number, the others go on, their energies are one
// vector, and that turns are taken at random is one branch for all.
constexpr std::int64_t most_walkers = 8;

std::int64_t count_nonzero(const double* numbers, std::int64_t n) {
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < n; ++j) count += numbers[j] != 0;
  return count;
}

std::int64_t most_neighbors(const FlatHistogramArgs& args) {
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < args.n_spins; ++i) {
    const std::int64_t count = count_nonzero(args.couplings + i * args.n_spins, args.n_spins);
    most = count > most ? count : most;
  }
  return most;
}

// The couplings of each spin: whole rows, which end with zeros, or those to its neighbors, where these are few.
class Couplings {
 public:
  explicit Couplings(const FlatHistogramArgs& args)
      : stride_((args.n_spins + lanes - 1) / lanes * lanes),
        n_neighbors_(most_neighbors(args)),
        few_(n_neighbors_ <= stride_ / lanes),
        width_(few_ ? n_neighbors_ : stride_),
        values_(args.n_spins * width_),
        neighbors_(few_ ? args.n_spins * width_ : 0) {
    const std::int64_t n = args.n_spins;
    for (std::int64_t i = 0; i < n; ++i) {
      const double* row = args.couplings + i * n;
      double* values = values_.data() + i * width_;
      for (std::int64_t j = 0; j < width_; ++j) values[j] = !few_ && j < n ? row[j] : 0;
      if (!few_) continue;
      std::int64_t* neighbors = neighbors_.data() + i * width_;
      for (std::int64_t k = 0; k < width_; ++k) neighbors[k] = i;
      for (std::int64_t first = 0, k = 0; first < n; first += lanes) {
        const std::int64_t end = n - first < lanes ? n : first + lanes;
        if (count_nonzero(row + first, end - first) == 0) continue;
        for (std::int64_t j = first; j < end; ++j) {
          if (row[j] == 0) continue;
          values[k] = row[j];
          neighbors[k++] = j;
        }
      }
    }
  }

  std::int64_t stride() const { return stride_; }
  std::int64_t width() const { return width_; }

  // field_j += times J_ij
  void add_row(std::int64_t i, double times, double* __restrict field) const {
    const double* __restrict row = values_.data() + i * width_;
    if (few_) {
      const std::int64_t* __restrict neighbors = neighbors_.data() + i * width_;
      for (std::int64_t k = 0; k < width_; ++k) field[neighbors[k]] += times * row[k];
    } else {
      for (std::int64_t j = 0; j < width_; j += lanes) {
        for (std::int64_t l = 0; l < lanes; ++l) field[j + l] += times * row[j + l];
      }
    }
  }

 private:
  const std::int64_t stride_, n_neighbors_;
  const bool few_;
  const std::int64_t width_;
  const runtime::Buffer<double> values_;
  const runtime::Buffer<std::int64_t> neighbors_;
};

// Walkers first to first + count. Where there is room for more, the first of them is done again.
class Walkers {
 public:
  Walkers(const FlatHistogramArgs& args, const Couplings& couplings, std::int64_t first, std::int64_t count)
      : args_(args),
        couplings_(couplings),
        first_(first),
        count_(count),
        log_g_(args.log_g + first * args.n_levels),
        histogram_(args.histogram + first * args.n_levels),
        visited_(args.visited + first * args.n_levels),
        spins_(count * couplings.stride()),
        field_(count * couplings.stride()) {
    const std::int64_t n = args.n_spins, stride = couplings.stride();
    for (std::int64_t w = 0; w < count; ++w) {
      double *spins = spins_.data() + w * stride, *field = field_.data() + w * stride;
      for (std::int64_t j = 0; j < stride; ++j) field[j] = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        spins[i] = args.spins[(first + w) * n + i];
        couplings.add_row(i, spins[i], field);
      }
      double energy = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        energy -= (0.5 * field[i] + args.fields[i]) * spins[i];
        field[i] += args.fields[i];
      }
      energy_.set(w, energy);
    }
    for (std::int64_t w = 0; w < most_walkers; ++w) {
      of_[w] = w < count ? w : 0;
      energy_.set(w, energy_[of_[w]]);
      first_level_.set(w, of_[w] * args.n_levels);
    }
    for (std::int64_t w = 0; w < count; ++w) head(w, args.way[first + w]);
    level_ = levels(energy_);
    for (std::int64_t w = 0; w < count; ++w) visited_[level_[w]] = 1;
    weight_ = at(log_g_, level_);
  }

  void run() {
    for (std::int64_t t = 0; t < args_.n_sweeps; ++t) {
      if (t % 64 == 0) runtime::check_interrupt();
      sweep(args_.first_sweep + t);
    }
    for (std::int64_t w = 0; w < count_; ++w) {
      for (std::int64_t i = 0; i < args_.n_spins; ++i) {
        args_.spins[(first_ + w) * args_.n_spins + i] = static_cast<std::int8_t>(spins_[w * couplings_.stride() + i]);
      }
    }
  }

 private:
  using Reals = Row<double>;
  using Places = Row<std::int64_t>;
  static constexpr std::int64_t far = std::int64_t{1} << 62;

  // The levels of energies, as places among those of all walkers here.
  Places levels(const Reals& energy) const {
    Reals level = energy + offset_;
    level = where_greater(level, Reals::of(0.0), level, Reals::of(0.0));
    level = where_greater(last_level_, level, level, last_level_);
    Places places = first_level_;
    VFE_UNROLL
    for (std::int64_t k = 0; k < Reals::parts; ++k) {
      places.part[k] += __builtin_convertvector(level.part[k], Vector<std::int64_t>);
    }
    return places;
  }
  template <class P>
  static Reals at(const double* numbers, const P& places) {
    Reals found = {};
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) found.set(w, numbers[places[w]]);
    return found;
  }

  void sweep(std::int64_t number) {
    const std::int64_t n = args_.n_spins;
    const double n_trials = static_cast<double>(number + 1) * static_cast<double>(n);
    Reals f = Reals::of(0.0);
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) {
      const double decay = args_.decay[first_ + of_[w]];
      f.set(w, decay > 0 ? decay / n_trials : args_.increment[first_ + of_[w]]);
    }
    for (std::int64_t begin = 0; begin < n; begin += drawn_trials) {
      const std::int64_t n_drawn = n - begin < drawn_trials ? n - begin : drawn_trials;
      std::int64_t spins[drawn_trials * most_walkers];
      double bars[drawn_trials * most_walkers];
      draw(begin, n_drawn, number, spins, bars);
      for (std::int64_t k = 0; k < n_drawn * most_walkers; k += most_walkers) trial(spins + k, bars + k, f);
    }
  }

  // The spin of each trial, as a place among those of all walkers here, and the logarithm of its uniform number.
  void draw(std::int64_t begin, std::int64_t n_drawn, std::int64_t sweep, std::int64_t* __restrict spins,
            double* __restrict bars) const {
    std::uint32_t words[most_walkers * group_words];
    for (std::int64_t w = 0; w < count_; ++w) {
      draw_lanes(numerics::draw_counter(static_cast<std::uint32_t>(begin / 2), static_cast<std::uint32_t>(first_ + w),
                                        static_cast<std::uint64_t>(sweep), numerics::Stream::flat_histogram),
                 numerics::key_from(args_.seed), words + w * group_words);
    }
    const auto n = static_cast<std::uint64_t>(args_.n_spins);
    for (std::int64_t half = 0; half < 2; ++half) {
      for (std::int64_t w = 0; w < most_walkers; ++w) {
        const std::uint32_t* of_walker = words + of_[w] * group_words + half * 2 * block_lanes;
        const std::int64_t before = of_[w] * couplings_.stride();
        for (std::int64_t k = 0; k < block_lanes; ++k) {
          const std::int64_t to = (2 * k + half) * most_walkers + w;
          spins[to] = before + static_cast<std::int64_t>(std::uint64_t{of_walker[k]} * n >> 32);
          bars[to] = static_cast<double>(of_walker[block_lanes + k]) + 0.5;
        }
      }
    }
    for (std::int64_t k = 0; k < n_drawn * most_walkers; ++k) bars[k] = numerics::log_scaled(bars[k], 32);
  }

  void trial(const std::int64_t* spins, const double* bars, const Reals& f) {
    Reals bar;
    __builtin_memcpy(&bar, bars, sizeof bar);
    const Reals after = energy_ + 2.0 * at(spins_.data(), spins) * at(field_.data(), spins);
    const Places there = levels(after);
    std::uint8_t known = 1;
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) known &= visited_[there[w]];
    if (known == 0) find(there);
    const Reals weight = at(log_g_, there), gain = weight_ - weight;
    energy_ = where_greater(gain, bar, after, energy_);
    level_ = where_greater(gain, bar, there.as<double>(), level_.as<double>()).as<std::int64_t>();
    weight_ = where_greater(gain, bar, weight, weight_) + f;
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) log_g_[level_[w]] = weight_[w];
    for (std::int64_t w = 0; w < count_; ++w) ++histogram_[level_[w]];
    std::uint64_t taken = 0, arrived = 0;
    VFE_UNROLL
    for (std::int64_t k = 0; k < Reals::parts; ++k) {
      taken |= bits_of(gain.part[k] > bar.part[k]) << k * vector_width<double>;
      arrived |= bits_of((level_.part[k] <= low_.part[k]) | (level_.part[k] >= high_.part[k]));
    }
    if (arrived != 0) arrive();
    for (taken &= (std::uint64_t{1} << count_) - 1; taken != 0; taken &= taken - 1) {
      const std::int64_t w = __builtin_ctzll(taken);
      turn(w, spins[w]);
    }
  }

  void turn(std::int64_t w, std::int64_t spin) {
    const std::int64_t before = w * couplings_.stride();
    const double s = spins_[spin] = -spins_[spin];
    couplings_.add_row(spin - before, 2 * s, field_.data() + before);
  }

  // Levels that walkers have not visited yet weigh as much as those they come from.
  [[gnu::noinline]] void find(const Places& there) {
    for (std::int64_t w = 0; w < most_walkers; ++w) {
      if (visited_[there[w]] != 0) continue;
      visited_[there[w]] = 1;
      log_g_[there[w]] = weight_[w];
    }
  }

  // Walkers that have come to where they were on their way to turn round.
  [[gnu::noinline]] void arrive() {
    for (std::int64_t w = 0; w < count_; ++w) {
      if (level_[w] <= low_[w]) {
        if (args_.way[first_ + w] == 2) ++args_.trips[first_ + w];
        head(w, 1);
      } else if (level_[w] >= high_[w]) {
        head(w, 2);
      }
    }
  }

  void head(std::int64_t w, std::uint8_t way) {
    args_.way[first_ + w] = way;
    low_.set(w, way == 1 ? -far : first_level_[w] + args_.low);
    high_.set(w, way == 1 ? first_level_[w] + args_.high : far);
  }

  const FlatHistogramArgs& args_;
  const Couplings& couplings_;
  const std::int64_t first_, count_;
  double* const log_g_;
  std::uint64_t* const histogram_;
  std::uint8_t* const visited_;
  const runtime::Buffer<double> spins_, field_;
  const Reals offset_ = Reals::of(args_.offset);
  const Reals last_level_ = Reals::of(static_cast<double>(args_.n_levels - 1));
  std::int64_t of_[most_walkers];  // whose numbers
  Reals energy_ = {}, weight_ = {};
  Places first_level_ = {}, level_ = {};
  Places low_ = Places::of(-far), high_ = Places::of(far);  // where walkers on their way turn round
};

}  // namespace

void flat_histogram(const FlatHistogramArgs& args) {
  const Couplings couplings(args);
  const double of_trial = 8.0 + static_cast<double>(couplings.width()) / 16.0;
  const double nanoseconds = static_cast<double>(args.n_walkers) * static_cast<double>(args.n_sweeps) *
                             static_cast<double>(args.n_spins) * of_trial;
  const std::int64_t size = runtime::items_per_task(args.n_walkers, most_walkers, nanoseconds, args.num_threads);
  runtime::parallel_for((args.n_walkers + size - 1) / size, nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * size, left = args.n_walkers - first;
    Walkers(args, couplings, first, left < size ? left : size).run();
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
