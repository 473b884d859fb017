#include "reparam.hpp"

#include <atomic>

#include "../numerics/families.hpp"
#include "../runtime/scratch.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::Stream;

// Elements that a task does at a time. What they need (parameters, noise, terms of the sums) stays in the first-level
// cache, or close.
template <class T>
constexpr std::int64_t piece = 4096 / sizeof(T);

template <class T>
constexpr std::int64_t group = block_lanes * numerics::block_normals<T>;  // elements of as many blocks

// --- sums of the terms of a row, by columns ---------------------------------------------------------

constexpr std::int64_t sum_lanes = 16;

// What becomes of x before it is added up.
struct Itself {
  template <class V>
  VFE_HD void operator()(V& /*x*/) const {}
};
struct Square {
  template <class V>
  VFE_HD void operator()(V& x) const {
    x *= x;
  }
};

struct RowSum {
  double lanes[sum_lanes] = {};

  // Columns up to here have been a multiple of 16.
  template <class T, class Term = Itself>
  VFE_HD void add(const T* x, std::int64_t n, const Term& term = {}) {
    constexpr std::int64_t width = vector_bytes / static_cast<std::int64_t>(sizeof(double));
    using Numbers [[gnu::vector_size(width * sizeof(T))]] = T;
    Vector<double> sums[sum_lanes / width];
    __builtin_memcpy(&sums, lanes, sizeof sums);
    std::int64_t k = 0;
    for (; k + sum_lanes <= n; k += sum_lanes) {
      VFE_UNROLL
      for (std::int64_t v = 0; v < sum_lanes / width; ++v) {
        Numbers next;
        __builtin_memcpy(&next, x + k + v * width, sizeof next);
        term(next);
        sums[v] += __builtin_convertvector(next, Vector<double>);
      }
    }
    __builtin_memcpy(lanes, &sums, sizeof sums);
    for (std::int64_t l = 0; k + l < n; ++l) {
      T next = x[k + l];
      term(next);
      lanes[l] += static_cast<double>(next);
    }
  }
  VFE_HD double total() const {
    double half[sum_lanes];
    __builtin_memcpy(half, lanes, sizeof half);
    VFE_UNROLL
    for (std::int64_t width = sum_lanes / 2; width > 0; width /= 2) {
      for (std::int64_t l = 0; l < width; ++l) half[l] += half[l + width];
    }
    return half[0];
  }
};

// Of a whole row; a short one in four lanes, since sixteen would take longer to be added up than to be filled.
constexpr std::int64_t short_row = 128;
using Four [[gnu::vector_size(4 * sizeof(double))]] = double;

template <class T, class Term>
VFE_HD double sum_short_row(const T* x, std::int64_t n, const Term& term) {
  using Narrow [[gnu::vector_size(4 * sizeof(T))]] = T;
  Four lanes = {};
  const auto add_four = [&](std::int64_t k) {
    Narrow next;
    __builtin_memcpy(&next, x + k, sizeof next);
    term(next);
    lanes += __builtin_convertvector(next, Four);
  };
  std::int64_t k = 0;
  for (; k + sum_lanes <= n; k += sum_lanes) {
    VFE_UNROLL
    for (std::int64_t v = 0; v < sum_lanes; v += 4) add_four(k + v);
  }
  for (; k + 4 <= n; k += 4) add_four(k);
  double rest = 0;
  for (; k < n; ++k) {
    T next = x[k];
    term(next);
    rest += static_cast<double>(next);
  }
  return ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])) + rest;
}

// Rows that follow one another.
template <class T, class Term = Itself>
VFE_HD void sum_rows(const T* x, std::int64_t n_rows, std::int64_t n, double* sums, const Term& term = {}) {
  if (n < short_row) {
    for (std::int64_t r = 0; r < n_rows; ++r) sums[r] = sum_short_row(x + r * n, n, term);
    return;
  }
  for (std::int64_t r = 0; r < n_rows; ++r) {
    RowSum sum;
    sum.add(x + r * n, n, term);
    sums[r] = sum.total();
  }
}

// --- noise ----------------------------------------------------------------------------------------

// What will be read or written next, element by element: memory is asked for it while noise is drawn.
template <class T>
struct Ahead {
  const T *read[4] = {}, *write[2] = {};

  // The group from `element` on, of which [0, count) are this thread's: to ask for others would take them away from the
  // thread that writes them.
  VFE_HD void ask(std::int64_t element, std::int64_t count) const {
    constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T));
    const std::int64_t begin = element > 0 ? element : 0;
    const std::int64_t end = element + group<T> < count ? element + group<T> : count;
    VFE_UNROLL
    for (const T* from : read) {
      if (from == nullptr) continue;
      for (std::int64_t k = begin; k < end; k += line) __builtin_prefetch(from + k, 0, 3);
    }
    VFE_UNROLL
    for (const T* to : write) {
      if (to == nullptr) continue;
      for (std::int64_t k = begin; k < end; k += line) __builtin_prefetch(to + k, 1, 3);
    }
  }
};

// Of elements [first, first + count) of the sheet; there is room for a group more on either side.
template <class T, class Noise>
VFE_HD const T* draw_noise(numerics::Key key, std::int64_t sample, std::int64_t first, std::int64_t count,
                           const Ahead<T>& ahead, T* __restrict noise) {
  alignas(64) std::uint32_t words[groups_together * group_words];
  const std::int64_t begin = first / group<T>, end = ceil_div(first + count, group<T>);
  for (std::int64_t g = begin; g < end; g += groups_together) {
    const std::int64_t n = end - g < groups_together ? end - g : groups_together;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t block = (g + i) * block_lanes;
      const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
      draw_lanes(numerics::draw_counter(low, high, static_cast<std::uint64_t>(sample), Noise::stream), key,
                 words + i * group_words);
      ahead.ask((g + i) * group<T> - first, count);
    }
    T* made = noise + (g - begin) * group<T>;
    Noise::make(words, made, n);
  }
  return noise + (first - begin * group<T>);
}

// Numbers that are made of one word (float) or of two (double).
template <class Number>
VFE_HD void make_lanes(const std::uint32_t* __restrict words, float* __restrict made, std::int64_t n_groups) {
  for (std::int64_t k = 0; k < n_groups * group<float>; ++k) made[k] = Number::of(words[k]);
}
template <class Number>
VFE_HD void make_lanes(const std::uint32_t* __restrict words, double* __restrict made, std::int64_t n_groups) {
  for (std::int64_t half = 0; half < 2 * n_groups; ++half, words += 2 * block_lanes, made += block_lanes) {
    for (std::uint32_t lane = 0; lane < block_lanes; ++lane) {
      made[lane] = Number::of(words[lane], words[block_lanes + lane]);
    }
  }
}

template <class Number, class T>
VFE_HD void make_numbers(const std::uint32_t* words, T* made, std::int64_t n) {
  if constexpr (std::is_same_v<Number, numerics::NormalNumber>) {
    normal_lanes(words, made, n);
  } else {
    make_lanes<Number>(words, made, n);
  }
}

// --- the families whose latents are numbers of their own ------------------------------------------

// True if all magnitudes are below the limit; infinities and NaN are not. In integers, so that it vectorizes: what is
// not below carries into the sign bit.
template <class T>
VFE_HD bool all_below(const T* __restrict x, std::int64_t n, T limit) {
  using Bits = typename numerics::Format<T>::Bits;
  constexpr Bits sign = Bits{1} << (8 * sizeof(T) - 1);
  const Bits from_limit = sign - std::bit_cast<Bits>(limit);
  Bits carried = 0;
  for (std::int64_t k = 0; k < n; ++k) carried |= (std::bit_cast<Bits>(x[k]) & (sign - 1)) + from_limit;
  return (carried & sign) == 0;
}

// A part of the sheet, as it lies in memory; the prior is spread over it, or null.
template <class T>
struct Part {
  std::int64_t n;
  const T *mu, *log_var, *prior_mean, *prior_log_var;
};

// What has been added up over samples: of the derivative by mu, and of that by mu times the noise.
template <class W>
struct Gathered {
  W *plain, *with_noise;
};

// The formulas of numerics/families.hpp over a part.
template <class Law>
struct Loops {
  using T = typename Law::Element;
  using W = typename Law::Wide;

  VFE_HD static void make(const std::uint32_t* words, T* made, std::int64_t n) {
    make_numbers<typename Law::Number>(words, made, n);
  }
  static constexpr numerics::Stream stream = Law::stream;

  // body(whether there is a prior, whether all log_var are bounded), as constants: a loop with pointers that may be
  // null does not vectorize.
  template <class Body>
  VFE_HD static void choose(const Part<T>& p, const Body& body) {
    using Yes = std::true_type;
    using No = std::false_type;
    if (p.prior_mean != nullptr) return body(Yes{}, No{});
    if constexpr (Law::gains_by_bounds) {
      if (all_below(p.log_var, p.n, numerics::parts_bound<T>)) return body(No{}, Yes{});  // twice its half, and what
    }  // Shape adds
    body(No{}, No{});
  }

  template <bool prior>
  VFE_HD static numerics::Parameters<T> at(std::int64_t k, const T* mu, const T* log_var, const T* mean,
                                           const T* prior_log_var) {
    return {mu[k], Law::relaxed ? T(0) : log_var[k], prior ? mean[k] : T(0),
            prior && !Law::relaxed ? prior_log_var[k] : T(0)};
  }

  template <bool with_terms>
  VFE_HD static void prepare(const Part<T>& p, W* scale, W* term) {
    if constexpr (!with_terms && Law::relaxed) return;
    choose(p, [&](auto prior, auto bounded) {
      find<prior, bounded, with_terms>(p.n, p.mu, p.log_var, p.prior_mean, p.prior_log_var, scale, term);
    });
  }
  template <bool prior, bool bounded, bool with_terms>
  VFE_HD static void find(std::int64_t n, const T* __restrict mu, const T* __restrict log_var, const T* __restrict mean,
                          const T* __restrict prior_log_var, W* __restrict scale, W* __restrict term) {
    for (std::int64_t k = 0; k < n; ++k) {
      const auto of = Law::template prepare<prior, bounded>(at<prior>(k, mu, log_var, mean, prior_log_var));
      if (!Law::relaxed) scale[k] = of.scale;
      if (with_terms) term[k] = of.kl;
    }
  }

  VFE_HD static void draw(const Part<T>& p, double temperature, const W* __restrict scale, const T* __restrict noise,
                          T* __restrict z, W* __restrict term) {
    const std::int64_t n = p.n;
    const T* __restrict mu = p.mu, * __restrict log_var = p.log_var;
    for (std::int64_t k = 0; k < n; ++k) {
      const auto of =
          Law::draw(at<false>(k, mu, log_var, nullptr, nullptr), Law::relaxed ? W(1) : scale[k], noise[k], temperature);
      z[k] = of.sample;
      term[k] = of.log_q;
    }
  }

  template <bool first, class Sum>
  VFE_HD static void gather(const Part<T>& p, double temperature, const W* __restrict scale, const T* __restrict noise,
                            const T* __restrict grad_sample, const T* __restrict grad_log_q, const Gathered<Sum>& to) {
    const std::int64_t n = p.n;
    const T* __restrict mu = p.mu, * __restrict log_var = p.log_var;
    Sum* __restrict plain = to.plain, * __restrict with_noise = to.with_noise;
    for (std::int64_t k = 0; k < n; ++k) {
      const T of_log_q = Law::samples_move_log_q ? grad_log_q[k] : T(0);
      const auto of = Law::gather(at<false>(k, mu, log_var, nullptr, nullptr), Law::relaxed ? W(1) : scale[k], noise[k],
                                  grad_sample[k], of_log_q, temperature);
      const Sum found = static_cast<Sum>(of.plain), times_noise = static_cast<Sum>(of.with_noise);
      plain[k] = first ? found : plain[k] + found;
      if (!Law::relaxed) with_noise[k] = first ? times_noise : with_noise[k] + times_noise;
    }
  }

  // The same of samples that are at hand, where `with_noise` has the scale in it.
  template <bool first, class Sum>
  VFE_HD static void gather_drawn(const Part<T>& p, const T* __restrict z, const T* __restrict grad_sample,
                                  const T* __restrict grad_log_prior, const Gathered<Sum>& to) {
    const std::int64_t n = p.n;
    const T* __restrict mu = p.mu;
    Sum* __restrict plain = to.plain, * __restrict with_noise = to.with_noise;
    for (std::int64_t k = 0; k < n; ++k) {
      const T by_z = grad_sample[k] - grad_log_prior[k] * z[k];
      const Sum found = static_cast<Sum>(by_z), moved = static_cast<Sum>(by_z * (z[k] - mu[k]));
      plain[k] = first ? found : plain[k] + found;
      with_noise[k] = first ? moved : with_noise[k] + moved;
    }
  }

  template <class Sum>
  VFE_HD static void finish(const Part<T>& p, const Gathered<Sum>& from, const W* grad_kl, const W* grad_log_q,
                            T* grad_mu, T* grad_log_var) {
    choose(p, [&](auto prior, auto bounded) {
      differentiate<prior, bounded, Moved::by_noise>(p, from.plain, from.with_noise, grad_kl, grad_log_q, grad_mu,
                                                     grad_log_var);
    });
  }
  template <class Sum>
  VFE_HD static void finish_drawn(const Part<T>& p, const Gathered<Sum>& from, const W* grad_kl, const W* grad_log_q,
                                  T* grad_mu, T* grad_log_var) {
    choose(p, [&](auto prior, auto bounded) {
      differentiate<prior, bounded, Moved::by_scaled>(p, from.plain, from.with_noise, grad_kl, grad_log_q, grad_mu,
                                                      grad_log_var);
    });
  }
  // Both at once, of a single sample.
  VFE_HD static void finish_one(const Part<T>& p, const T* grad_sample, const T* noise, const T* grad_kl,
                                const T* grad_log_q, T* grad_mu, T* grad_log_var) {
    choose(p, [&](auto prior, auto bounded) {
      differentiate<prior, bounded, Moved::by_one>(p, grad_sample, noise, grad_kl, grad_log_q, grad_mu, grad_log_var);
    });
  }
  // What the second array is: sums of derivatives times noise, or times noise and scale, or the noise of one sample.
  enum class Moved { by_noise, by_scaled, by_one };
  template <bool prior, bool bounded, Moved how, class Sum>
  VFE_HD static void differentiate(const Part<T>& p, const Sum* __restrict plain, const Sum* __restrict with_noise,
                                   const W* __restrict grad_kl, const W* __restrict grad_log_q, T* __restrict grad_mu,
                                   T* __restrict grad_log_var) {
    const std::int64_t n = p.n;
    const T* __restrict mu = p.mu, * __restrict log_var = p.log_var;
    const T* __restrict mean = p.prior_mean, * __restrict prior_log_var = p.prior_log_var;
    for (std::int64_t k = 0; k < n; ++k) {
      const Sum moved = Law::relaxed || how == Moved::by_scaled ? Sum(0)
                        : how == Moved::by_one                  ? plain[k] * with_noise[k]
                                                                : with_noise[k];
      const auto of =
          Law::template finish<prior, bounded>(at<prior>(k, mu, log_var, mean, prior_log_var), static_cast<W>(plain[k]),
                                               static_cast<W>(moved), grad_kl[k], grad_log_q[k]);
      grad_mu[k] = of.mu;
      if (Law::relaxed) continue;
      grad_log_var[k] = how == Moved::by_scaled ? of.log_var + static_cast<T>(Sum(0.5) * with_noise[k]) : of.log_var;
    }
  }
};

void note(const ReparamArgs& args) { std::atomic_ref<bool>(*args.not_finite).store(true, std::memory_order_relaxed); }

// Of row after row what its sum makes.
template <class T, class Value>
VFE_HD void store(const ReparamArgs& args, void* to, std::int64_t first, const double* __restrict sums, std::int64_t n,
                  const Value& value_of) {
  T* __restrict at = static_cast<T*>(to) + first;
  for (std::int64_t r = 0; r < n; ++r) at[r] = static_cast<T>(value_of(sums[r]));
  if (!all_below(at, n, std::numeric_limits<T>::infinity())) note(args);
}

// How a call is cut: rows that fit into a piece are done together, longer ones in pieces of columns.
struct Cut {
  double nanoseconds;  // of a row, all samples
  std::int64_t width, rows, columns, n_tasks, n_pieces;

  VFE_HD Cut(const ReparamArgs& args, std::int64_t piece_size, double of_number)
      : nanoseconds(of_number * static_cast<double>(args.n_latents) * static_cast<double>(args.n_samples)),
        width(args.n_latents * args.n_categories),
        rows(width < piece_size
                 ? runtime::items_per_task(args.n_rows, piece_size / (width > 0 ? width : 1),
                                           nanoseconds * static_cast<double>(args.n_rows), args.num_threads)
                 : 1),
        columns(width < piece_size ? width : piece_size),
        n_tasks(ceil_div(args.n_rows, rows)),
        n_pieces(width > 0 ? ceil_div(width, columns) : 1) {}

  VFE_HD std::int64_t columns_from(std::int64_t column) const {
    return width - column < columns ? width - column : columns;
  }
};

template <class Law>
struct Task {
  using T = typename Law::Element;
  using W = typename Law::Wide;
  static constexpr std::int64_t size = piece<W>;

  using Loop = Loops<Law>;

  const ReparamArgs& args;
  const numerics::Key key;
  const Cut& cut;
  std::int64_t row = 0, n_rows = 0, column = 0, n_columns = 0;  // of the piece
  Part<T> part{};
  alignas(64) T noise[size + 2 * group<T>];
  alignas(64) T prior_mean[size], prior_log_var[size];
  alignas(64) W scale[size], term[size];
  alignas(64) double sums[size];  // of rows

  VFE_HD Task(const ReparamArgs& given, const Cut& of_call)
      : args(given), key(numerics::key_from(given.seed)), cut(of_call) {}

  VFE_HD std::int64_t start() const { return row * cut.width + column; }

  VFE_HD void spread(const void* prior, T* to) const {
    const T* from = static_cast<const T*>(prior) + row * args.prior_stride + column;
    for (std::int64_t r = 0; r < n_rows; ++r) {
      for (std::int64_t k = 0; k < n_columns; ++k) to[r * n_columns + k] = from[r * args.prior_stride + k];
    }
  }

  VFE_HD void take(std::int64_t first_row, std::int64_t rows, std::int64_t first_column, std::int64_t columns) {
    row = first_row;
    n_rows = rows;
    column = first_column;
    n_columns = columns;
    part = {rows * columns, static_cast<const T*>(args.mu) + start(), nullptr, nullptr, nullptr};
    if (!Law::relaxed) part.log_var = static_cast<const T*>(args.log_var) + start();
    if (args.prior_mean != nullptr) {
      spread(args.prior_mean, prior_mean);
      part.prior_mean = prior_mean;
      if (!Law::relaxed) spread(args.prior_log_var, prior_log_var);
      part.prior_log_var = prior_log_var;
    }
  }

  VFE_HD const T* noise_of(std::int64_t sample, const Ahead<T>& ahead = {}) {
    return draw_noise<T, Loop>(key, sample, args.row_offset * cut.width + start(), part.n, ahead, noise);
  }
  VFE_HD T* sample_at(std::int64_t sample) const {
    return static_cast<T*>(args.sample) + sample * args.n_rows * cut.width + start();
  }

  // Of the rows at hand, from their sums.
  VFE_HD void store_kl() const {
    const double constant = Law::kl_constant * static_cast<double>(args.n_latents);
    store<T>(args, args.kl, row, sums, n_rows, [=](double sum) { return sum + constant; });
  }
  VFE_HD void store_log_q(std::int64_t sample) const {
    const double constant = Law::log_q_constant(args.temperature) * static_cast<double>(args.n_latents);
    store<T>(args, args.log_q, sample * args.n_rows + row, sums, n_rows, [=](double sum) { return sum + constant; });
  }
  // Of samples that are all there.
  VFE_HD void store_log_prior(std::int64_t sample) {
    if (args.log_prior == nullptr) return;
    const std::int64_t first = sample * args.n_rows + row;
    const T* z = static_cast<const T*>(args.sample) + first * cut.width;
    if (cut.n_pieces == 1) {
      sum_rows(z, n_rows, cut.width, sums, Square{});
    } else {
      RowSum of_pieces;
      for (std::int64_t c = 0; c < cut.width; c += cut.columns) of_pieces.add(z + c, cut.columns_from(c), Square{});
      sums[0] = of_pieces.total();
    }
    const double constant = numerics::normal_log_density_constant * static_cast<double>(args.n_latents);
    store<T>(args, args.log_prior, first, sums, n_rows, [=](double sum) { return constant - 0.5 * sum; });
  }

  void forward(std::int64_t task) {
    const std::int64_t first = task * cut.rows, left = args.n_rows - first;
    if (cut.columns == cut.width) {
      take(first, left < cut.rows ? left : cut.rows, 0, cut.width);
      const T* drawn = noise_of(0, {{part.mu, part.log_var}, {sample_at(0)}});
      Loop::template prepare<true>(part, scale, term);
      sum_rows(term, n_rows, n_columns, sums);
      store_kl();
      for (std::int64_t s = 0; s < args.n_samples; ++s) {
        if (s > 0) drawn = noise_of(s, {{}, {sample_at(s)}});
        Loop::draw(part, args.temperature, scale, drawn, sample_at(s), term);
        sum_rows(term, n_rows, n_columns, sums);
        store_log_q(s);
        store_log_prior(s);
      }
      return;
    }
    for (std::int64_t s = 0; s < args.n_samples; ++s) {
      RowSum kl, log_q;
      for (std::int64_t c = 0; c < cut.width; c += cut.columns) {
        draw_piece(first, c, s, term, [&] { kl.add(term, part.n); });
        log_q.add(term, part.n);
        runtime::check_interrupt();
      }
      if (s == 0) {
        sums[0] = kl.total();
        store_kl();
      }
      sums[0] = log_q.total();
      store_log_q(s);
      store_log_prior(s);
    }
  }

  // Samples of a piece of a row, and terms of log q; those of the KL come first, and are taken before.
  template <class Take>
  void draw_piece(std::int64_t of_row, std::int64_t first_column, std::int64_t s, W* terms, const Take& take_kl) {
    take(of_row, 1, first_column, cut.columns_from(first_column));
    const T* drawn = noise_of(s, {{part.mu, part.log_var}, {sample_at(s)}});
    if (s == 0) {
      Loop::template prepare<true>(part, scale, term);
      take_kl();
    } else {
      Loop::template prepare<false>(part, scale, term);
    }
    Loop::draw(part, args.temperature, scale, drawn, sample_at(s), terms);
  }

  // Rows that are fewer than the threads, one after the other: the threads share the pieces, and their terms are added
  // up as if there were one thread.
  static void forward_together(const ReparamArgs& args, const Cut& cut) {
    const runtime::Buffer<W> kl_terms(cut.width), log_q_terms(cut.width);
    for (std::int64_t row = 0; row < args.n_rows; ++row) {
      for (std::int64_t s = 0; s < args.n_samples; ++s) {
        const auto do_piece = [&](std::int64_t piece) {
          const std::int64_t c = piece * cut.columns;
          Task state(args, cut);
          state.draw_piece(row, c, s, log_q_terms.data() + c,
                           [&] { __builtin_memcpy(kl_terms.data() + c, state.term, state.part.n * sizeof(W)); });
        };
        runtime::parallel_for(cut.n_pieces, cut.nanoseconds / static_cast<double>(args.n_samples), args.num_threads,
                              do_piece);
        Task state(args, cut);
        state.row = row;
        state.n_rows = 1;
        if (s == 0) {
          sum_rows(kl_terms.data(), 1, cut.width, state.sums);
          state.store_kl();
        }
        sum_rows(log_q_terms.data(), 1, cut.width, state.sums);
        state.store_log_q(s);
        state.store_log_prior(s);
      }
    }
  }
};

template <class Law, class Sum>
struct BackwardTask : Task<Law> {
  using Base = Task<Law>;
  using Base::args, Base::part, Base::n_rows, Base::n_columns, Base::row;
  using typename Base::T;
  using typename Base::W;
  alignas(64) Sum plain[Base::size], with_noise[Base::size];
  alignas(64) W grad_kl[Base::size], grad_log_q[Base::size];
  alignas(64) T of_sample[Base::size], of_log_q[Base::size], of_log_prior[Base::size];

  VFE_HD BackwardTask(const ReparamArgs& given, const Cut& of_call) : Base(given, of_call) {}

  void rows_of(const void* from, std::int64_t first, T* to) const {
    for (std::int64_t r = 0; r < n_rows; ++r) {
      const T value = from == nullptr ? T(0) : static_cast<const T*>(from)[first + r];
      for (std::int64_t k = 0; k < n_columns; ++k) to[r * n_columns + k] = value;
    }
  }

  VFE_HD void clear(T* to) const {
    for (std::int64_t k = 0; k < part.n; ++k) to[k] = T(0);
  }

  void do_piece() {
    const Gathered<Sum> gathered{plain, with_noise};
    const std::int64_t width = this->cut.width;
    const bool from_samples = args.grad_sample != nullptr || (Law::samples_move_log_q && args.grad_log_q != nullptr);
    T* by_mu = static_cast<T*>(args.grad_mu) + this->start();
    T* by_log_var = Law::relaxed ? by_mu : static_cast<T*>(args.grad_log_var) + this->start();
    spread_sums();
    const auto gradient_of = [&](std::int64_t s) {
      return static_cast<const T*>(args.grad_sample) + s * args.n_rows * width + this->start();
    };
    if constexpr (!Law::samples_move_log_q && !Law::relaxed) {
      if (args.drawn != nullptr) {
        if (args.grad_sample == nullptr) clear(of_sample);
        for (std::int64_t s = 0; s < args.n_samples; ++s) {
          const T* z = static_cast<const T*>(args.drawn) + s * args.n_rows * width + this->start();
          const T* given = args.grad_sample == nullptr ? of_sample : gradient_of(s);
          rows_of(args.grad_log_prior, s * args.n_rows + row, of_log_prior);
          if (s == 0) {
            Base::Loop::template gather_drawn<true>(part, z, given, of_log_prior, gathered);
          } else {
            Base::Loop::template gather_drawn<false>(part, z, given, of_log_prior, gathered);
          }
        }
        Base::Loop::finish_drawn(part, gathered, grad_kl, grad_log_q, by_mu, by_log_var);
        return look(by_mu, by_log_var);
      }
      if (from_samples && args.n_samples == 1) {
        const T* drawn = this->noise_of(0, {{part.mu, part.log_var, gradient_of(0)}, {by_mu, by_log_var}});
        Base::Loop::finish_one(part, gradient_of(0), drawn, grad_kl, grad_log_q, by_mu, by_log_var);
        return look(by_mu, by_log_var);
      }
    }
    if (from_samples) {
      if (Law::samples_move_log_q) Base::Loop::template prepare<false>(part, this->scale, this->term);
      if (args.grad_sample == nullptr) clear(of_sample);
      for (std::int64_t s = 0; s < args.n_samples; ++s) {
        const T* given = args.grad_sample == nullptr ? of_sample : gradient_of(s);
        if (Law::samples_move_log_q) rows_of(args.grad_log_q, s * args.n_rows + row, of_log_q);
        const T* drawn = this->noise_of(s);
        if (s == 0) {
          Base::Loop::template gather<true>(part, args.temperature, this->scale, drawn, given, of_log_q, gathered);
        } else {
          Base::Loop::template gather<false>(part, args.temperature, this->scale, drawn, given, of_log_q, gathered);
        }
      }
    } else {
      for (std::int64_t k = 0; k < part.n; ++k) plain[k] = with_noise[k] = Sum(0);
    }
    Base::Loop::finish(part, gathered, grad_kl, grad_log_q, by_mu, by_log_var);
    look(by_mu, by_log_var);
  }

  VFE_HD void look(const T* by_mu, const T* by_log_var) const {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    if (!all_below(by_mu, part.n, infinity) || !all_below(by_log_var, part.n, infinity)) note(args);
  }

  // The gradients by KL and by the sum of log q over samples, for each latent of a row.
  VFE_HD void spread_sums() {
    for (std::int64_t r = 0; r < n_rows; ++r) {
      const W of_kl = args.grad_kl == nullptr ? W(0) : static_cast<W>(static_cast<const T*>(args.grad_kl)[row + r]);
      double sum = 0;
      for (std::int64_t s = 0; s < args.n_samples && args.grad_log_q != nullptr; ++s) {
        sum += static_cast<double>(static_cast<const T*>(args.grad_log_q)[s * args.n_rows + row + r]);
      }
      for (std::int64_t k = 0; k < n_columns; ++k) grad_kl[r * n_columns + k] = of_kl;
      for (std::int64_t k = 0; k < n_columns; ++k) grad_log_q[r * n_columns + k] = static_cast<W>(sum);
    }
  }

  void backward(std::int64_t task) {
    const Cut& of = this->cut;
    const std::int64_t first = task / of.n_pieces * of.rows, left = args.n_rows - first;
    const std::int64_t first_column = task % of.n_pieces * of.columns;
    this->take(first, left < of.rows ? left : of.rows, first_column, of.columns_from(first_column));
    do_piece();
  }
};

template <class Law>
void run(const ReparamArgs& args, double nanoseconds) {
  const Cut cut{args, Task<Law>::size, nanoseconds};
  const double work = cut.nanoseconds * static_cast<double>(args.n_rows);
  const auto each_task = [&](auto task_of, std::int64_t n_tasks, const auto& body) {
    const auto do_task = [&](std::int64_t task) {
      typename decltype(task_of)::type state(args, cut);
      body(state, task);
    };
    runtime::parallel_for(n_tasks, work, args.num_threads, do_task);
  };
  const auto backward = [](auto& state, std::int64_t task) { state.backward(task); };
  if (args.sample != nullptr) {
    if (cut.n_pieces > 1 && args.n_rows < runtime::threads_worth(work, args.num_threads)) {
      return Task<Law>::forward_together(args, cut);
    }
    each_task(std::type_identity<Task<Law>>{}, cut.n_tasks,
              [](auto& state, std::int64_t task) { state.forward(task); });
  } else if (args.n_samples == 1) {
    each_task(std::type_identity<BackwardTask<Law, typename Law::Wide>>{}, cut.n_tasks * cut.n_pieces, backward);
  } else {
    each_task(std::type_identity<BackwardTask<Law, double>>{}, cut.n_tasks * cut.n_pieces, backward);
  }
}

// --- a latent of several categories ---------------------------------------------------------------

// With E_i = e^-g_i, exponential numbers, and a = mu - m:
//   ln q = ln (k - 1)! + (k - 1) ln temperature - k ln sum E + sum ln E - sum y
//   KL   = k (ln sum e^-a E - ln sum E) + sum a, averaged over samples
// What all a share cancels, and is taken out first.
template <class T>
struct GumbelTask {
  static constexpr Stream stream = Stream::reparam_gumbel_softmax;
  VFE_HD static void make(const std::uint32_t* words, T* made, std::int64_t n) {
    make_lanes<numerics::Exponential>(words, made, n);
  }

  const ReparamArgs& args;
  const std::int64_t k, n_rows;  // categories; rows of a task
  const std::int64_t most;       // latents of a piece
  const double log_q_constant;
  const runtime::Buffer<T> noise;      // that of E
  const runtime::Buffer<double> z, w;  // (most, k): samples, and e^-a E, but for a factor
  const runtime::Buffer<double> of_parameters;
  const runtime::Buffer<double> kl_terms, log_q_terms;  // of the latents of the task
  const runtime::Buffer<double> sums;                   // of its rows
  // Of the latent that was looked at last.
  double log_q = 0, kl = 0, sum_w = 0;

  static std::int64_t rows_of_task(const ReparamArgs& args) {
    const std::int64_t width = args.n_latents * args.n_categories;
    return width < piece<double> ? piece<double> / (width > 0 ? width : 1) : 1;
  }

  explicit GumbelTask(const ReparamArgs& given)
      : args(given),
        k(given.n_categories),
        n_rows(rows_of_task(given)),
        most(k < piece<double> ? piece<double> / k : 1),
        log_q_constant(numerics::gumbel_log_q_constant(k, given.temperature)),
        noise(most * k + 2 * group<T>),
        z(most * k),
        w(most * k),
        of_parameters(most * k),
        kl_terms(n_rows * given.n_latents),
        log_q_terms(n_rows * given.n_latents),
        sums(n_rows) {}

  // Samples and sums of the latents [first, first + n) of the sheet.
  template <class Each>
  VFE_HD void draw(std::int64_t sample, std::int64_t first, std::int64_t n, const Each& each) {
    const std::int64_t width = args.n_latents * k;
    const T* e = draw_noise<T, GumbelTask>(numerics::key_from(args.seed), sample, args.row_offset * width + first * k,
                                           n * k, {}, noise.data());
    const T* mu = static_cast<const T*>(args.mu) + first * k;
    for (std::int64_t i = 0; i < n * k; ++i) w[i] = numerics::log(static_cast<double>(e[i]));
    for (std::int64_t l = 0; l < n; ++l) {
      const std::int64_t row = (first + l) / args.n_latents, column = (first + l) % args.n_latents * k;
      const T* m = args.prior_mean == nullptr
                       ? nullptr
                       : static_cast<const T*>(args.prior_mean) + row * args.prior_stride + column;
      find(mu + l * k, m, e + l * k, z.data() + l * k, w.data() + l * k);
      each(l);
    }
  }

  // w comes as ln E.
  VFE_HD void find(const T* __restrict mu, const T* __restrict m, const T* __restrict e, double* __restrict y,
                   double* __restrict of_prior) {
    constexpr double lowest = -std::numeric_limits<double>::infinity();
    const auto a_of = [&](std::int64_t i) {
      const double logit = static_cast<double>(mu[i]);
      return m == nullptr ? logit : logit - static_cast<double>(m[i]);
    };
    const double shared = a_of(0);
    double largest = lowest, largest_of_prior = lowest, sum_log = 0, sum_e = 0, sum_a = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      const double logit = static_cast<double>(mu[i]), log_e = of_prior[i], a = a_of(i) - shared;
      y[i] = logit - log_e;
      of_prior[i] = log_e - a;
      largest = y[i] > largest ? y[i] : largest;
      largest_of_prior = of_prior[i] > largest_of_prior ? of_prior[i] : largest_of_prior;
      sum_log += log_e;
      sum_e += static_cast<double>(e[i]);
      sum_a += a;
    }
    double sum_y = 0, sum = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      const double scaled = (y[i] - largest) / args.temperature;
      sum_y += scaled;
      y[i] = numerics::exp(scaled);
      of_prior[i] = numerics::exp(of_prior[i] - largest_of_prior);
    }
    sum_w = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      sum += y[i];
      sum_w += of_prior[i];
    }
    for (std::int64_t i = 0; i < k; ++i) y[i] /= sum;
    const double n = static_cast<double>(k), log_sum_e = numerics::log(sum_e);
    log_q = log_q_constant - n * log_sum_e + sum_log - (sum_y - n * numerics::log(sum));
    kl = n * (largest_of_prior + numerics::log(sum_w) - log_sum_e) + sum_a;
  }

  void forward(std::int64_t task) {
    const std::int64_t first_row = task * n_rows, left = args.n_rows - first_row;
    const std::int64_t rows = left < n_rows ? left : n_rows, latents = args.n_latents;
    const std::int64_t first = first_row * latents, end = first + rows * latents;
    for (std::int64_t i = 0; i < rows * latents; ++i) kl_terms[i] = 0;
    for (std::int64_t s = 0; s < args.n_samples; ++s) {
      T* sample = static_cast<T*>(args.sample) + s * args.n_rows * latents * k;
      for (std::int64_t begin = first; begin < end; begin += most) {
        const std::int64_t n = end - begin < most ? end - begin : most;
        draw(s, begin, n, [&](std::int64_t l) {
          kl_terms[begin - first + l] += kl;
          log_q_terms[begin - first + l] = log_q;
        });
        for (std::int64_t i = 0; i < n * k; ++i) sample[begin * k + i] = static_cast<T>(z[i]);
        runtime::check_interrupt();
      }
      sum_rows(log_q_terms.data(), rows, latents, sums.data());
      store<T>(args, args.log_q, s * args.n_rows + first_row, sums.data(), rows, [](double sum) { return sum; });
    }
    sum_rows(kl_terms.data(), rows, latents, sums.data());
    store<T>(args, args.kl, first_row, sums.data(), rows,
             [n = static_cast<double>(args.n_samples)](double sum) { return sum / n; });
  }

  void backward(std::int64_t task) {
    const std::int64_t first_row = task * n_rows, left = args.n_rows - first_row;
    const std::int64_t rows = left < n_rows ? left : n_rows, latents = args.n_latents;
    const std::int64_t first = first_row * latents, end = first + rows * latents;
    const double n_categories = static_cast<double>(k);
    for (std::int64_t begin = first; begin < end; begin += most) {
      const std::int64_t n = end - begin < most ? end - begin : most;
      for (std::int64_t i = 0; i < n * k; ++i) of_parameters[i] = 0;
      for (std::int64_t s = 0; s < args.n_samples; ++s) {
        draw(s, begin, n, [&](std::int64_t l) {
          const std::int64_t row = (begin + l) / latents;
          const double* sample = z.data() + l * k;
          double* to = of_parameters.data() + l * k;
          if (args.grad_sample != nullptr) {
            const T* given = static_cast<const T*>(args.grad_sample) + (s * args.n_rows * latents + begin + l) * k;
            double mean = 0;
            for (std::int64_t i = 0; i < k; ++i) mean += static_cast<double>(given[i]) * sample[i];
            for (std::int64_t i = 0; i < k; ++i) {
              to[i] += sample[i] * (static_cast<double>(given[i]) - mean) / args.temperature;
            }
          }
          if (args.grad_log_q != nullptr) {
            const T given = static_cast<const T*>(args.grad_log_q)[s * args.n_rows + row];
            const double scaled = static_cast<double>(given) / args.temperature;
            for (std::int64_t i = 0; i < k; ++i) to[i] -= scaled * (1.0 - n_categories * sample[i]);
          }
          if (args.grad_kl != nullptr) {
            const double given = static_cast<double>(static_cast<const T*>(args.grad_kl)[row]);
            const double scaled = given / static_cast<double>(args.n_samples);
            for (std::int64_t i = 0; i < k; ++i) to[i] += scaled * (1.0 - n_categories * (w[l * k + i] / sum_w));
          }
        });
        runtime::check_interrupt();
      }
      T* grad_mu = static_cast<T*>(args.grad_mu) + begin * k;
      for (std::int64_t i = 0; i < n * k; ++i) grad_mu[i] = static_cast<T>(of_parameters[i]);
      constexpr T infinity = std::numeric_limits<T>::infinity();
      if (!all_below(grad_mu, n * k, infinity)) note(args);
    }
  }
};

template <class T>
void run_gumbel(const ReparamArgs& args) {
  const std::int64_t elements = args.n_rows * args.n_latents * args.n_categories;
  const auto do_task = [&](std::int64_t task) {
    GumbelTask<T> state(args);
    args.sample != nullptr ? state.forward(task) : state.backward(task);
  };
  runtime::parallel_for(ceil_div(args.n_rows, GumbelTask<T>::rows_of_task(args)),
                        20.0 * static_cast<double>(elements) * static_cast<double>(args.n_samples), args.num_threads,
                        do_task);
}

template <class T>
void run_family(const ReparamArgs& args) {
  switch (args.family) {
    case Family::gaussian:
      return run<numerics::Gaussian<T>>(args, 2.0);
    case Family::laplace:
      return run<numerics::Laplace<T>>(args, 2.0);
    case Family::logistic:
      return run<numerics::Logistic<T>>(args, 3.0);
    case Family::log_normal:
      return run<numerics::LogNormal<T>>(args, 8.0);
    case Family::concrete:
      return run<numerics::Concrete<T>>(args, 8.0);
    case Family::gumbel_softmax:
      return run_gumbel<T>(args);
  }
}

}  // namespace

void reparam(const ReparamArgs& args) {
  args.real == Real::float32 ? run_family<float>(args) : run_family<double>(args);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
