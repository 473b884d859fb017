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
constexpr std::int64_t few_walkers = 4;  // fewer take them one after the other

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
      for (std::int64_t k = 0; k < width_; ++k) neighbors[k] = i;  // where fewer than others have, 0 is added to it
      for (std::int64_t first = 0, k = 0; first < n; first += lanes) {
        const std::int64_t end = n - first < lanes ? n : first + lanes;
        if (count_nonzero(row + first, end - first) == 0) continue;  // most are, and are passed over at once
        for (std::int64_t j = first; j < end; ++j) {
          if (row[j] == 0) continue;
          values[k] = row[j];
          neighbors[k++] = j;
        }
      }
    }
  }

  std::int64_t stride() const { return stride_; }  // of the spins and fields of a walker
  std::int64_t width() const { return width_; }    // of a row

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
    for (std::int64_t w = 0; w < count; ++w) head(w);
    level_ = levels(energy_);
    for (std::int64_t w = 0; w < count; ++w) visited_[level_[w]] = 1;
    weight_ = numbers([&](std::int64_t w) { return log_g_[level_[w]]; });
  }

  void run() {
    for (std::int64_t t = 0; t < args_.n_sweeps; ++t) {
      if (t % 8 == 0) runtime::check_interrupt();
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
  // One of each walker, put together in a tree: one after the other they would wait for each other.
  template <class Number>
  static Reals numbers(const Number& of_walker) {
    Reals all;
    const auto part = [&]<std::size_t... l>(std::int64_t k, std::index_sequence<l...>) {
      all.part[k] = Vector<double>{of_walker(k * vector_width<double> + static_cast<std::int64_t>(l))...};
    };
    VFE_UNROLL
    for (std::int64_t k = 0; k < Reals::parts; ++k) {
      part(k, std::make_index_sequence<static_cast<std::size_t>(vector_width<double>)>{});
    }
    return all;
  }

  void sweep(std::int64_t number) {
    const std::int64_t n = args_.n_spins;
    const double n_trials = static_cast<double>(number + 1) * static_cast<double>(n);
    const Reals f = numbers([&](std::int64_t w) {
      const double decay = args_.decay[first_ + of_[w]];
      return decay > 0 ? decay / n_trials : args_.increment[first_ + of_[w]];
    });
    for (std::int64_t begin = 0; begin < n; begin += drawn_trials) {
      std::int64_t spins[most_walkers][drawn_trials];
      double bars[most_walkers][drawn_trials];
      for (std::int64_t w = 0; w < count_; ++w) {
        draw(w,
             numerics::draw_counter(static_cast<std::uint32_t>(begin / 2), static_cast<std::uint32_t>(first_ + w),
                                    static_cast<std::uint64_t>(number), numerics::Stream::flat_histogram),
             spins[w], bars[w]);
      }
      for (std::int64_t w = count_; w < most_walkers; ++w) {
        __builtin_memcpy(spins[w], spins[0], sizeof spins[0]);
        __builtin_memcpy(bars[w], bars[0], sizeof bars[0]);
      }
      for (std::int64_t k = 0; k < drawn_trials && begin + k < n; ++k) {
        const std::int64_t drawn = k % 2 * block_lanes + k / 2;
        if (count_ < few_walkers) {
          for (std::int64_t w = 0; w < count_; ++w) trial(w, spins[w][drawn], bars[w][drawn], f[w]);
        } else {
          trials(&spins[0][drawn], &bars[0][drawn], f);
        }
      }
    }
  }

  // The spins of the even trials of a walker, then of the odd ones, as places among those of all walkers here, and the
  // logarithms of their uniform numbers.
  void draw(std::int64_t w, numerics::Words4 counter, std::int64_t* __restrict spins, double* __restrict bars) const {
    std::uint32_t words[group_words];
    draw_lanes(counter, numerics::key_from(args_.seed), words);
    const std::int64_t before = w * couplings_.stride();
    const auto n = static_cast<std::uint32_t>(args_.n_spins);
    for (std::int64_t odd = 0; odd < 2; ++odd) {
      const std::uint32_t* __restrict of_trials = words + odd * 2 * block_lanes;
      for (std::int64_t k = 0; k < block_lanes; ++k) {
        spins[odd * block_lanes + k] =
            before + static_cast<std::int64_t>(std::uint64_t{of_trials[k]} * std::uint64_t{n} >> 32);
        bars[odd * block_lanes + k] = static_cast<double>(of_trials[block_lanes + k]) + 0.5;
      }
    }
    for (std::int64_t k = 0; k < drawn_trials; ++k) bars[k] = numerics::log_scaled(bars[k], 32);
  }

  void trial(std::int64_t w, std::int64_t spin, double bar, double f) {
    const double after = energy_[w] + 2.0 * spins_[spin] * field_[spin];
    double level = after + offset_[w];
    level = level > 0 ? level : 0;
    level = level < last_level_[w] ? level : last_level_[w];
    const std::int64_t there = first_level_[w] + static_cast<std::int64_t>(level);
    find(w, there);
    if (log_g_[level_[w]] - log_g_[there] > bar) {
      energy_.set(w, after);
      level_.set(w, there);
      turn(w, spin);
    }
    const std::int64_t here = level_[w];
    log_g_[here] += f;
    ++histogram_[here];
    if (here <= low_[w] || here >= high_[w]) arrive(w);
  }

  // One of each walker, with weight_ as the log_g of where it is. `drawn`, `bars`: of the first; those of the next are
  // drawn_trials further on.
  void trials(const std::int64_t* drawn, const double* bars, const Reals& f) {
    std::int64_t spins[most_walkers];
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) spins[w] = drawn[w * drawn_trials];
    const Reals bar = numbers([&](std::int64_t w) { return bars[w * drawn_trials]; });
    const Reals s = numbers([&](std::int64_t w) { return spins_[spins[w]]; });
    const Reals after = energy_ + 2.0 * s * numbers([&](std::int64_t w) { return field_[spins[w]]; });
    const Places there = levels(after);
    std::uint8_t known = 1;
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) known &= visited_[there[w]];
    if (known == 0) {
      for (std::int64_t w = 0; w < count_; ++w) find(w, there[w]);
    }
    const Reals weight = numbers([&](std::int64_t w) { return log_g_[there[w]]; }), gain = weight_ - weight;
    energy_ = where_greater(gain, bar, after, energy_);
    level_ = where_greater(gain, bar, there.as<double>(), level_.as<double>()).as<std::int64_t>();
    weight_ = where_greater(gain, bar, weight, weight_) + f;
    VFE_UNROLL
    for (std::int64_t w = 0; w < most_walkers; ++w) log_g_[level_[w]] = weight_[w];
    for (std::int64_t w = 0; w < count_; ++w) ++histogram_[level_[w]];
    std::uint64_t taken = 0, arrived = 0;
    VFE_UNROLL
    for (std::int64_t k = 0; k < Reals::parts; ++k) {
      const std::int64_t before = k * vector_width<double>;
      taken |= bits_of(gain.part[k] > bar.part[k]) << before;
      arrived |= bits_of((level_.part[k] <= low_.part[k]) | (level_.part[k] >= high_.part[k])) << before;
    }
    for (; arrived != 0; arrived &= arrived - 1) arrive(__builtin_ctzll(arrived));
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

  // A level that a walker has not visited yet weighs as much as the one it comes from.
  void find(std::int64_t w, std::int64_t there) {
    if (visited_[there] != 0) return;
    visited_[there] = 1;
    log_g_[there] = log_g_[level_[w]];
  }

  // A walker that has come to where it turns round.
  void arrive(std::int64_t w) {
    std::uint8_t& way = args_.way[first_ + w];
    if (way == 2) ++args_.trips[first_ + w];
    way = level_[w] <= low_[w] ? 1 : 2;
    head(w);
  }

  void head(std::int64_t w) {
    const bool up = args_.way[first_ + w] == 1;
    low_.set(w, up ? -far : first_level_[w] + args_.low);
    high_.set(w, up ? first_level_[w] + args_.high : far);
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
  const double of_trial = 10.0 + static_cast<double>(couplings.width()) / 16.0;
  const double nanoseconds = static_cast<double>(args.n_walkers) * static_cast<double>(args.n_sweeps) *
                             static_cast<double>(args.n_spins) * of_trial;
  const std::int64_t size = runtime::items_per_task(args.n_walkers, most_walkers, nanoseconds, args.num_threads);
  runtime::parallel_for((args.n_walkers + size - 1) / size, nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * size, left = args.n_walkers - first;
    Walkers(args, couplings, first, left < size ? left : size).run();
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
