// Reparameterized samples on the device. A thread makes the numbers of one Philox block; sums over a row are in the
// order of the CPU kernel.
#include <limits>
#include <type_traits>

#include <runtime/launch.hpp>

#include "../cpp/kernels/reparam.hpp"
#include "../cpp/numerics/families.hpp"

namespace vfe::cuda {
namespace {

using kernels::Family;
using kernels::ReparamArgs;
using numerics::Parameters;
using numerics::Stream;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

constexpr std::int64_t block_lanes = 16;  // elements go around so many Philox blocks
template <class T>
constexpr int per_block = 16 / sizeof(T);
template <class T>
constexpr std::int64_t group = block_lanes * per_block<T>;
constexpr std::int64_t short_row = 128;

template <class Number, class T>
VFE_DEVICE void make(const numerics::Words4& words, T (&made)[per_block<T>]) {
  const std::uint32_t (&w)[4] = words.word;
  if constexpr (std::is_same_v<Number, numerics::NormalNumber>) {
    if constexpr (sizeof(T) == 4) {
      const auto first = numerics::normal_pair(w[0], w[1]), second = numerics::normal_pair(w[2], w[3]);
      made[0] = first.first, made[1] = first.second, made[2] = second.first, made[3] = second.second;
    } else {
      const auto pair = numerics::normal_pair(w[0], w[1], w[2], w[3]);
      made[0] = pair.first, made[1] = pair.second;
    }
  } else if constexpr (sizeof(T) == 4) {
    VFE_UNROLL
    for (int i = 0; i < 4; ++i) made[i] = Number::of(w[i]);
  } else {
    made[0] = Number::of(w[0], w[1]), made[1] = Number::of(w[2], w[3]);
  }
}

// The noise of a block of the sheet.
template <class Number, class T>
VFE_DEVICE void noise_of(numerics::Key key, Stream stream, std::int64_t block, std::int64_t sample,
                         T (&made)[per_block<T>]) {
  const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
  make<Number>(philox4x32(numerics::draw_counter(low, high, static_cast<std::uint64_t>(sample), stream), key), made);
}

VFE_DEVICE bool finite(double x) { return numerics::magnitude(x) <= std::numeric_limits<double>::max(); }

// The arguments, on the device. Elements are counted from the first of the call; `before` are those of the rows of
// row_offset.
template <class T>
struct Sheet {
  std::int64_t n_samples, n_rows, n_latents, width, before;
  const T *mu, *log_var, *prior_mean, *prior_log_var;
  std::int64_t prior_stride;
  double temperature;
  numerics::Key key;
  T *sample, *kl, *log_q;
  const T *grad_sample, *grad_kl, *grad_log_q;
  T *grad_mu, *grad_log_var;
  bool* not_finite;

  // All write the same, so it matters not who comes last.
  VFE_DEVICE void note(bool good) const {
    if (!good) *not_finite = true;
  }
  VFE_DEVICE void store(T* to, std::int64_t k, double value) const {
    const T rounded = static_cast<T>(value);
    to[k] = rounded;
    note(finite(static_cast<double>(rounded)));
  }
  template <bool relaxed>
  VFE_DEVICE Parameters<T> at(std::int64_t row, std::int64_t column) const {
    const std::int64_t element = row * width + column, of_prior = row * prior_stride + column;
    Parameters<T> p{mu[element], T(0), T(0), T(0)};
    if (!relaxed) p.log_var = log_var[element];
    if (prior_mean != nullptr) p.prior_mean = prior_mean[of_prior];
    if (!relaxed && prior_mean != nullptr) p.prior_log_var = prior_log_var[of_prior];
    return p;
  }
};

template <class Law, class T>
VFE_DEVICE auto prepare(const Sheet<T>& sheet, const Parameters<T>& p) {
  return sheet.prior_mean != nullptr ? Law::template prepare<true, false>(p) : Law::template prepare<false, false>(p);
}

// Rows of up to 127 latents: a block of threads does whole rows, as many as fit. Terms go through shared memory, and
// four threads add those of a row.
template <class Law>
struct ShortRows {
  using T = typename Law::Element;
  using W = typename Law::Wide;
  static constexpr int n_threads = 256, n_elements = per_block<T>;
  static constexpr std::int64_t tile = (n_threads / block_lanes - 1) * group<T>;  // wherever it starts in a group
  Sheet<T> sheet;

  struct Shared {
    W kl[tile], log_q[tile];
  };

  VFE_HD static std::int64_t rows_of(std::int64_t width) { return tile / (width > 0 ? width : 1); }

  VFE_DEVICE void operator()(const Thread& thread) const {
    auto& shared = thread.template shared<Shared>();
    const std::int64_t width = sheet.width, rows = rows_of(width), first_row = thread.block() * rows;
    const std::int64_t left = sheet.n_rows - first_row, n_rows = left < rows ? left : rows, n = n_rows * width;
    const std::int64_t first = sheet.before + first_row * width;
    const std::int64_t block = first / group<T> * block_lanes + thread.index();
    // Of this thread's first number, from the first of the tile.
    const std::int64_t begin = block / block_lanes * group<T> + block % block_lanes - first;
    Parameters<T> p[n_elements] = {};
    W scale[n_elements] = {};
    VFE_UNROLL
    for (int i = 0; i < n_elements; ++i) {
      const std::int64_t k = begin + i * block_lanes;
      if (k < 0 || k >= n) continue;
      const auto of_tile = static_cast<std::uint32_t>(k), columns = static_cast<std::uint32_t>(width);
      p[i] = sheet.template at<Law::relaxed>(first_row + of_tile / columns, of_tile % columns);
      const auto of = prepare<Law>(sheet, p[i]);
      scale[i] = of.scale;
      shared.kl[k] = of.kl;
    }
    for (std::int64_t s = 0; s < sheet.n_samples; ++s) {
      T noise[n_elements];
      noise_of<typename Law::Number>(sheet.key, Law::stream, block, s, noise);
      VFE_UNROLL
      for (int i = 0; i < n_elements; ++i) {
        const std::int64_t k = begin + i * block_lanes;
        if (k < 0 || k >= n) continue;
        const auto of = Law::draw(p[i], scale[i], noise[i], sheet.temperature);
        sheet.sample[(s * sheet.n_rows + first_row) * width + k] = of.sample;
        shared.log_q[k] = of.log_q;
      }
      thread.barrier();
      if (s == 0) add(thread, n_rows, shared.kl, Law::kl_constant, sheet.kl + first_row);
      add(thread, n_rows, shared.log_q, Law::log_q_constant(sheet.temperature),
          sheet.log_q + s * sheet.n_rows + first_row);
      thread.barrier();
    }
  }

  VFE_DEVICE void add(const Thread& thread, std::int64_t n_rows, const W* terms, double constant, T* to) const {
    const std::int64_t width = sheet.width, whole = width / 4 * 4, lane = thread.index() % 4;
    for (std::int64_t first = 0; first < n_rows; first += n_threads / 4) {
      const std::int64_t row = first + thread.index() / 4;
      const bool is_row = row < n_rows;
      double sum = 0, rest = 0;
      for (std::int64_t k = lane; is_row && k < whole; k += 4) sum += static_cast<double>(terms[row * width + k]);
      for (std::int64_t k = whole; is_row && k < width; ++k) rest += static_cast<double>(terms[row * width + k]);
      sum += thread.shuffle_xor(sum, 2);
      sum += thread.shuffle_xor(sum, 1);
      if (is_row && lane == 0) sheet.store(to, row, (sum + rest) + constant * static_cast<double>(sheet.n_latents));
    }
  }
};

// Longer rows: sixteen threads do one of one sample. A thread's columns are alike modulo 16, so its own sum is that of
// a lane of the CPU kernel.
template <class Law>
struct LongRows {
  using T = typename Law::Element;
  static constexpr int n_threads = 256;
  static constexpr std::int64_t rows = n_threads / block_lanes;
  Sheet<T> sheet;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * rows + thread.index() / block_lanes;
    const std::int64_t s = k / sheet.n_rows, row = k % sheet.n_rows, width = sheet.width;
    const bool is_row = s < sheet.n_samples;
    const std::int64_t lane = thread.index() % block_lanes, first = sheet.before + row * width;
    const std::int64_t end = is_row ? ceil_div(first + width, group<T>) : 0;
    double kl = 0, log_q = 0;
    for (std::int64_t g = first / group<T>; g < end; ++g) {
      T noise[per_block<T>];
      noise_of<typename Law::Number>(sheet.key, Law::stream, g * block_lanes + lane, s, noise);
      VFE_UNROLL
      for (int i = 0; i < per_block<T>; ++i) {
        const std::int64_t column = g * group<T> + i * block_lanes + lane - first;
        if (column < 0 || column >= width) continue;
        const Parameters<T> p = sheet.template at<Law::relaxed>(row, column);
        const auto of = prepare<Law>(sheet, p);
        kl += static_cast<double>(of.kl);
        const auto drawn = Law::draw(p, of.scale, noise[i], sheet.temperature);
        sheet.sample[(s * sheet.n_rows + row) * width + column] = drawn.sample;
        log_q += static_cast<double>(drawn.log_q);
      }
    }
    kl = total(thread, kl), log_q = total(thread, log_q);
    if (!is_row || lane != 0) return;
    const double n = static_cast<double>(sheet.n_latents);
    if (s == 0) sheet.store(sheet.kl, row, kl + Law::kl_constant * n);
    sheet.store(sheet.log_q, s * sheet.n_rows + row, log_q + Law::log_q_constant(sheet.temperature) * n);
  }

  // Of lanes 8, 4, 2 and 1 apart: the same additions whichever lane has the first column.
  VFE_DEVICE static double total(const Thread& thread, double sum) {
    VFE_UNROLL
    for (int width = block_lanes / 2; width > 0; width /= 2) sum += thread.shuffle_xor(sum, width);
    return sum;
  }
};

template <class Law, class Sum>
struct Backward {
  using T = typename Law::Element;
  using W = typename Law::Wide;
  static constexpr int n_threads = 128, n_elements = per_block<T>;
  Sheet<T> sheet;
  std::int64_t first;  // block of the sheet

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t block = first + thread.block() * n_threads + thread.index(), width = sheet.width;
    const std::int64_t begin = block / block_lanes * group<T> + block % block_lanes - sheet.before;
    const std::int64_t n = sheet.n_rows * width;
    const bool from_samples = sheet.grad_sample != nullptr || (Law::samples_move_log_q && sheet.grad_log_q != nullptr);
    std::int64_t row[n_elements] = {};
    Parameters<T> p[n_elements] = {};
    W scale[n_elements] = {};
    Sum plain[n_elements] = {}, with_noise[n_elements] = {};
    double of_log_q[n_elements] = {};
    VFE_UNROLL
    for (int i = 0; i < n_elements; ++i) {
      const std::int64_t k = begin + i * block_lanes;
      if (k < 0 || k >= n) continue;
      row[i] = k / width;
      p[i] = sheet.template at<Law::relaxed>(row[i], k - row[i] * width);
      scale[i] = prepare<Law>(sheet, p[i]).scale;
    }
    for (std::int64_t s = 0; s < sheet.n_samples; ++s) {
      T noise[n_elements] = {};
      if (from_samples) noise_of<typename Law::Number>(sheet.key, Law::stream, block, s, noise);
      VFE_UNROLL
      for (int i = 0; i < n_elements; ++i) {
        const std::int64_t k = begin + i * block_lanes;
        if (k < 0 || k >= n) continue;
        const T by_sample = sheet.grad_sample == nullptr ? T(0) : sheet.grad_sample[s * n + k];
        const T by_log_q = sheet.grad_log_q == nullptr ? T(0) : sheet.grad_log_q[s * sheet.n_rows + row[i]];
        of_log_q[i] += static_cast<double>(by_log_q);
        if (!from_samples) continue;
        const auto of = Law::gather(p[i], scale[i], noise[i], by_sample, by_log_q, sheet.temperature);
        const Sum found = static_cast<Sum>(of.plain), times_noise = static_cast<Sum>(of.with_noise);
        plain[i] = s == 0 ? found : plain[i] + found;
        with_noise[i] = s == 0 ? times_noise : with_noise[i] + times_noise;
      }
    }
    VFE_UNROLL
    for (int i = 0; i < n_elements; ++i) {
      const std::int64_t k = begin + i * block_lanes;
      if (k < 0 || k >= n) continue;
      const W by_kl = sheet.grad_kl == nullptr ? W(0) : static_cast<W>(sheet.grad_kl[row[i]]);
      const W a = static_cast<W>(plain[i]), b = static_cast<W>(with_noise[i]), c = static_cast<W>(of_log_q[i]);
      const auto of = sheet.prior_mean != nullptr ? Law::template finish<true, false>(p[i], a, b, by_kl, c)
                                                  : Law::template finish<false, false>(p[i], a, b, by_kl, c);
      sheet.grad_mu[k] = of.mu;
      if (!Law::relaxed) sheet.grad_log_var[k] = of.log_var;
      sheet.note(finite(static_cast<double>(of.mu)) && finite(static_cast<double>(of.log_var)));
    }
  }
};

// --- a latent of several categories: a thread each -------------------------------------------------

// E of a sample of the elements [0, n) after `before`.
template <class T>
struct DrawExponential {
  static constexpr int n_threads = 256;
  numerics::Key key;
  std::int64_t before, n, sample;
  T* e;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t block = before / group<T> * block_lanes + thread.block() * n_threads + thread.index();
    const std::int64_t begin = block / block_lanes * group<T> + block % block_lanes - before;
    T noise[per_block<T>];
    noise_of<numerics::Exponential>(key, Stream::reparam_gumbel_softmax, block, sample, noise);
    VFE_UNROLL
    for (int i = 0; i < per_block<T>; ++i) {
      const std::int64_t k = begin + i * block_lanes;
      if (k >= 0 && k < n) e[k] = noise[i];
    }
  }
};

// Sums of GumbelTask::find in cpp/kernels/reparam.cpp in the same order; what it keeps of each category is computed
// again.
template <class T>
struct Choice {
  static constexpr int n_threads = 128;
  Sheet<T> sheet;
  std::int64_t k, first_row, n_latents, sample;  // categories; latents of the chunk
  double log_q_constant;
  const T* e;
  double *kl_terms, *log_q_terms, *of_parameters;

  struct Category {
    double y, of_prior, log_e, a;
  };
  VFE_DEVICE Category category(std::int64_t element, std::int64_t of_prior, std::int64_t i, const T* of_latent) const {
    const double logit = static_cast<double>(sheet.mu[element + i]);
    const double log_e = numerics::log(static_cast<double>(of_latent[i]));
    const auto a_of = [&](std::int64_t c) {
      const double mu = static_cast<double>(sheet.mu[element + c]);
      return sheet.prior_mean == nullptr ? mu : mu - static_cast<double>(sheet.prior_mean[of_prior + c]);
    };
    const double a = a_of(i) - a_of(0);
    return {logit - log_e, log_e - a, log_e, a};
  }

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t l = thread.block() * n_threads + thread.index();
    if (l >= n_latents) return;
    const std::int64_t row = first_row + l / sheet.n_latents, column = l % sheet.n_latents * k;
    const std::int64_t element = row * sheet.width + column, prior = row * sheet.prior_stride + column;
    const T* of_latent = e + l * k;
    constexpr double lowest = -std::numeric_limits<double>::infinity();
    double largest = lowest, largest_of_prior = lowest, sum_log = 0, sum_e = 0, sum_a = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      const Category c = category(element, prior, i, of_latent);
      largest = c.y > largest ? c.y : largest;
      largest_of_prior = c.of_prior > largest_of_prior ? c.of_prior : largest_of_prior;
      sum_log += c.log_e;
      sum_e += static_cast<double>(of_latent[i]);
      sum_a += c.a;
    }
    double sum_y = 0, sum = 0, sum_w = 0;
    for (std::int64_t i = 0; i < k; ++i) {
      const Category c = category(element, prior, i, of_latent);
      const double scaled = (c.y - largest) / sheet.temperature;
      sum_y += scaled;
      sum += numerics::exp(scaled);
      sum_w += numerics::exp(c.of_prior - largest_of_prior);
    }
    const auto z = [&](const Category& c) { return numerics::exp((c.y - largest) / sheet.temperature) / sum; };
    const std::int64_t of_sample = sample * sheet.n_rows * sheet.width + element;
    const double n = static_cast<double>(k);
    if (sheet.sample != nullptr) {
      const double log_sum_e = numerics::log(sum_e);
      log_q_terms[l] = log_q_constant - n * log_sum_e + sum_log - (sum_y - n * numerics::log(sum));
      const double kl = n * (largest_of_prior + numerics::log(sum_w) - log_sum_e) + sum_a;
      kl_terms[l] = (sample == 0 ? 0.0 : kl_terms[l]) + kl;
      for (std::int64_t i = 0; i < k; ++i) {
        sheet.sample[of_sample + i] = static_cast<T>(z(category(element, prior, i, of_latent)));
      }
      return;
    }
    double mean = 0, by_log_q = 0, by_kl = 0;
    if (sheet.grad_sample != nullptr) {
      for (std::int64_t i = 0; i < k; ++i) {
        mean += static_cast<double>(sheet.grad_sample[of_sample + i]) * z(category(element, prior, i, of_latent));
      }
    }
    if (sheet.grad_log_q != nullptr) {
      by_log_q = static_cast<double>(sheet.grad_log_q[sample * sheet.n_rows + row]) / sheet.temperature;
    }
    if (sheet.grad_kl != nullptr) {
      by_kl = static_cast<double>(sheet.grad_kl[row]) / static_cast<double>(sheet.n_samples);
    }
    for (std::int64_t i = 0; i < k; ++i) {
      const Category c = category(element, prior, i, of_latent);
      const double at = z(c), w = numerics::exp(c.of_prior - largest_of_prior);
      double to = sample == 0 ? 0.0 : of_parameters[l * k + i];
      if (sheet.grad_sample != nullptr) {
        to += at * (static_cast<double>(sheet.grad_sample[of_sample + i]) - mean) / sheet.temperature;
      }
      if (sheet.grad_log_q != nullptr) to -= by_log_q * (1.0 - n * at);
      if (sheet.grad_kl != nullptr) to += by_kl * (1.0 - n * (w / sum_w));
      of_parameters[l * k + i] = to;
      if (sample == sheet.n_samples - 1) sheet.store(sheet.grad_mu, element + i, to);
    }
  }
};

// Sums over the latents of a row, in the lanes of the CPU kernel: a thread each.
template <class T>
struct AddLatents {
  static constexpr int n_threads = 64;
  Sheet<T> sheet;
  std::int64_t n_rows;
  const double* terms;
  double divisor;
  T* to;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t row = thread.block() * n_threads + thread.index();
    if (row >= n_rows) return;
    const double* of = terms + row * sheet.n_latents;
    sheet.store(to, row, (sheet.n_latents < short_row ? in_lanes<4>(of) : in_lanes<16>(of)) / divisor);
  }
  template <int lanes>
  VFE_DEVICE double in_lanes(const double* x) const {
    double sums[lanes] = {}, rest = 0;
    std::int64_t k = 0;
    for (; k + lanes <= sheet.n_latents; k += lanes) {
      VFE_UNROLL
      for (int l = 0; l < lanes; ++l) sums[l] += x[k + l];
    }
    if constexpr (lanes == 4) {
      for (; k < sheet.n_latents; ++k) rest += x[k];
    } else {
      VFE_UNROLL
      for (int l = 0; l < lanes; ++l) {
        if (k + l < sheet.n_latents) sums[l] += x[k + l];
      }
    }
    VFE_UNROLL
    for (int width = lanes / 2; width > 0; width /= 2) {
      VFE_UNROLL
      for (int l = 0; l < lanes / 2; ++l) {  // a bound that varies would put sums[] into memory
        if (l < width) sums[l] += sums[l + width];
      }
    }
    return sums[0] + rest;
  }
};

// --- calls ----------------------------------------------------------------------------------------

template <class Law>
void launch_law(const Sheet<typename Law::Element>& sheet) {
  using T = typename Law::Element;
  if (sheet.sample != nullptr) {
    if (sheet.width < short_row) {
      return launch(ShortRows<Law>{sheet}, ceil_div(sheet.n_rows, ShortRows<Law>::rows_of(sheet.width)));
    }
    return launch(LongRows<Law>{sheet}, ceil_div(sheet.n_rows * sheet.n_samples, LongRows<Law>::rows));
  }
  const std::int64_t n = sheet.n_rows * sheet.width;
  if (n == 0) return;
  const std::int64_t first = sheet.before / group<T> * block_lanes;
  const std::int64_t end = ceil_div(sheet.before + n, group<T>) * block_lanes;
  const auto start = [&](auto kernel) { launch(kernel, ceil_div(end - first, decltype(kernel)::n_threads)); };
  if (sheet.n_samples == 1) {
    start(Backward<Law, typename Law::Wide>{sheet, first});
  } else {
    start(Backward<Law, double>{sheet, first});
  }
}

template <class T>
void launch_choice(const Sheet<T>& sheet, std::int64_t k) {
  constexpr std::int64_t most = std::int64_t{1} << 24;  // elements of a chunk, whose noise and terms are kept
  const std::int64_t by_size = most / (sheet.width > 0 ? sheet.width : 1), fitting = by_size > 0 ? by_size : 1;
  const std::int64_t chunk = sheet.n_rows < fitting ? sheet.n_rows : fitting;
  const bool forward = sheet.sample != nullptr;
  const DeviceBuffer<T> e(chunk * sheet.width);
  const DeviceBuffer<double> of_parameters(forward ? 0 : chunk * sheet.width);
  const DeviceBuffer<double> kl(forward ? chunk * sheet.n_latents : 0), log_q(forward ? chunk * sheet.n_latents : 0);
  const double constant = numerics::gumbel_log_q_constant(k, sheet.temperature);
  for (std::int64_t first = 0; first < sheet.n_rows; first += chunk) {
    const std::int64_t rows = sheet.n_rows - first < chunk ? sheet.n_rows - first : chunk, n = rows * sheet.width;
    const std::int64_t before = sheet.before + first * sheet.width, n_latents = rows * sheet.n_latents;
    const std::int64_t blocks = (ceil_div(before + n, group<T>) - before / group<T>)*block_lanes;
    const auto add = [&](const double* terms, double divisor, T* to) {
      launch(AddLatents<T>{sheet, rows, terms, divisor, to}, ceil_div(rows, AddLatents<T>::n_threads));
    };
    for (std::int64_t s = 0; s < sheet.n_samples; ++s) {
      launch(DrawExponential<T>{sheet.key, before, n, s, e.data()}, ceil_div(blocks, DrawExponential<T>::n_threads));
      launch(
          Choice<T>{sheet, k, first, n_latents, s, constant, e.data(), kl.data(), log_q.data(), of_parameters.data()},
          ceil_div(n_latents, Choice<T>::n_threads));
      if (forward) add(log_q.data(), 1.0, sheet.log_q + s * sheet.n_rows + first);
      if (s % 64 == 63) wait();
    }
    if (forward) add(kl.data(), static_cast<double>(sheet.n_samples), sheet.kl + first);
    wait();
  }
}

template <class T>
void run(const ReparamArgs& args) {
  const std::int64_t width = args.n_latents * args.n_categories, n = args.n_rows * width;
  const auto input = [](const void* data, std::int64_t count) { return Input<T>(static_cast<const T*>(data), count); };
  const auto output = [](void* data, std::int64_t count) { return Output<T>(static_cast<T*>(data), count); };
  const std::int64_t of_prior = args.prior_stride == 0 ? width : n;
  const auto mu = input(args.mu, n), log_var = input(args.log_var, n);
  const auto prior_mean = input(args.prior_mean, of_prior), prior_log_var = input(args.prior_log_var, of_prior);
  const auto grad_sample = input(args.grad_sample, args.n_samples * n), grad_kl = input(args.grad_kl, args.n_rows),
             grad_log_q = input(args.grad_log_q, args.n_samples * args.n_rows);
  const auto sample = output(args.sample, args.n_samples * n), kl = output(args.kl, args.n_rows),
             log_q = output(args.log_q, args.n_samples * args.n_rows), grad_mu = output(args.grad_mu, n),
             grad_log_var = output(args.grad_log_var, n);
  const DeviceBuffer<bool> not_finite(1);
  copy(not_finite.data(), args.not_finite, sizeof(bool));
  const Sheet<T> sheet{args.n_samples,          args.n_rows,       args.n_latents,   width,
                       args.row_offset * width, mu.data(),         log_var.data(),   prior_mean.data(),
                       prior_log_var.data(),    args.prior_stride, args.temperature, numerics::key_from(args.seed),
                       sample.data(),           kl.data(),         log_q.data(),     grad_sample.data(),
                       grad_kl.data(),          grad_log_q.data(), grad_mu.data(),   grad_log_var.data(),
                       not_finite.data()};
  switch (args.family) {
    case Family::gaussian:
      launch_law<numerics::Gaussian<T>>(sheet);
      break;
    case Family::laplace:
      launch_law<numerics::Laplace<T>>(sheet);
      break;
    case Family::logistic:
      launch_law<numerics::Logistic<T>>(sheet);
      break;
    case Family::log_normal:
      launch_law<numerics::LogNormal<T>>(sheet);
      break;
    case Family::concrete:
      launch_law<numerics::Concrete<T>>(sheet);
      break;
    case Family::gumbel_softmax:
      launch_choice<T>(sheet, args.n_categories);
      break;
  }
  sample.finish(), kl.finish(), log_q.finish(), grad_mu.finish(), grad_log_var.finish();
  copy(args.not_finite, not_finite.data(), sizeof(bool));
  wait();
}

}  // namespace

void reparam(const kernels::ReparamArgs& args) {
  if (args.log_prior != nullptr) throw ArgumentError("log_prior: expected none on a CUDA device");
  if (args.drawn != nullptr) throw ArgumentError("sample: expected none on a CUDA device, which draws the noise again");
  args.real == kernels::Real::float32 ? run<float>(args) : run<double>(args);
}

}  // namespace vfe::cuda
