// What `exact_rbm` enumerates and how it forms products (rbm_product.hpp), as tables that both twins prepare
// on the host.
#pragma once

#include "../numerics/elementary.hpp"
#include "../runtime/scratch.hpp"
#include "rbm.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t padded_units = 8;  // the units of the larger layer are padded to a multiple
constexpr double absent = -1e300;         // the field of a padding unit: its factor is exactly 1

// The machine in float64 with the enumerated layer s first; beta is inside, and the units of the
// other layer are padded to whole lanes.
struct Problem {
  std::int64_t n, m, padded;
  runtime::Buffer<double> weights;     // (n, padded)
  runtime::Buffer<double> bias;        // (n,)
  runtime::Buffer<double> other_bias;  // (padded,)

  explicit Problem(const RbmView& rbm, double beta)
      : n(rbm.n_visible),
        m(rbm.n_hidden),
        padded((m + padded_units - 1) / padded_units * padded_units),
        weights(n * padded),
        bias(n),
        other_bias(padded) {
    rbm.real == Real::float32 ? fill<float>(rbm, beta) : fill<double>(rbm, beta);
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
};

constexpr double ln2 = 0.6931471805599453;

// e^x as mantissa in [1/sqrt 2, sqrt 2] and a power of two, for any x.
struct ScaledExp {
  double mantissa;
  std::int64_t exponent;
};

VFE_HD ScaledExp scaled_exp(double x) {
  using F = numerics::Format<double>;
  const double k = (x * 1.4426950408889634 + F::round_magic) - F::round_magic;
  return {numerics::exp((x - k * F::ln2_high) - k * F::ln2_low), static_cast<std::int64_t>(k)};
}

// A sum of numbers 2^exponent mantissa, kept as sum 2^reference.
struct ScaledSum {
  std::int64_t reference = -(std::int64_t{1} << 60);
  double sum = 0;

  static constexpr std::int64_t slack = 300;

  VFE_HD static double power(std::int64_t k) {  // 2^k, 0 far below
    return k < -1000 ? 0.0 : std::bit_cast<double>(static_cast<std::uint64_t>(k + 1023) << 52);
  }
  VFE_HD void make_room(std::int64_t exponent) {
    if (exponent <= reference + slack) return;
    sum = sum == 0.0 ? 0.0 : sum * power(reference - exponent);
    reference = exponent;
  }
  VFE_HD void add(const ScaledSum& other) {
    make_room(other.reference);
    sum += other.sum * power(other.reference - reference);
  }
};

// A row's first number for sums that are multiples of e^reference, and what to multiply them with. Beyond 2^40 the
// reference is known to no more than a power of two.
constexpr double max_total = 0x1p40;
struct RowReference {
  double exponent, unit;
};
VFE_HD RowReference row_reference(double reference) {
  if (!(numerics::magnitude(reference) < max_total)) return {reference / ln2, 1.0};
  const ScaledExp split = scaled_exp(reference);
  return {static_cast<double>(split.exponent), split.mantissa};
}

// Units whose factors are multiplied on their own before they join a product: the moments divide by these.
constexpr std::int64_t unit_group = 4;

// The machine in product form: n enumerated units with biases, m others, padded to whole groups with
// units whose factor is 1; beta is inside.
template <class T>
struct ProductForm {
  static constexpr std::int64_t lanes = 128 / static_cast<std::int64_t>(sizeof(T));  // low states done together
  static constexpr double max_range = sizeof(T) == 8 ? 300 : 80;     // of ln of a product in a chunk, to either side
  static constexpr double max_exponent = sizeof(T) == 8 ? 600 : 80;  // of ln A, ln C and ln e^w
  std::int64_t n, m, low_bits, n_low, n_high;
  const double* weights;                 // (n, m)
  const double* bias;                    // (n,)
  runtime::Buffer<T> low;                // (n_low / lanes, m, lanes): C e^-g
  runtime::Buffer<double> low_mantissa;  // (n_low,): e^(bias + sum_j x_lj), split
  runtime::Buffer<std::int64_t> low_exponent;
  runtime::Buffer<double> base;             // (m,): A e^-g of the high state 0
  runtime::Buffer<double> step;             // (n, m): e^w_ij of the high units
  runtime::Buffer<std::int64_t> chunk_end;  // the exponent is taken out after each of these units
  std::int64_t n_chunks = 0;
  double gain = 0;              // sum_j g_j
  bool usable = true;           // for ln Z
  bool groups_in_range = true;  // for the moments too

  static constexpr std::int64_t max_low_bits = 8, max_low = 1 << max_low_bits;

  [[gnu::always_inline]] static std::int64_t choose_low_bits(std::int64_t n_units, std::int64_t n_others,
                                                             std::int64_t table_size, std::int64_t most) {
    std::int64_t bits = sizeof(T) == 8 ? 4 : 5;  // lanes
    while (bits < most && bits + 3 < n_units && (n_others << (bits + 1)) <= table_size) ++bits;
    return bits;
  }

  // weights (n_units, padded), other_bias (padded,): in float64, multiplied by beta; n_others of the padded
  // units are real. `table_size` numbers are to fit the cache.
  ProductForm(std::int64_t n_units, std::int64_t n_others, std::int64_t padded, const double* w, const double* own_bias,
              const double* other_bias, std::int64_t table_size, std::int64_t most_low_bits = max_low_bits)
      : n(n_units),
        m(padded),
        low_bits(choose_low_bits(n, m, table_size, most_low_bits)),
        n_low(std::int64_t{1} << low_bits),
        n_high(n < low_bits + 3 ? 0 : std::int64_t{1} << (n - low_bits)),
        weights(w),
        bias(own_bias),
        low(m * n_low),
        low_mantissa(n_low),
        low_exponent(n_low),
        base(m),
        step(n * m),
        chunk_end(m) {
    if (n_high == 0) {
      usable = false;
      return;
    }
    const runtime::Buffer<double> half_range(m);
    for (std::int64_t j = 0; j < m; ++j) half_range[j] = j < n_others ? center(j, other_bias[j]) : pad(j);
    double range = 0, group_range = 0;
    for (std::int64_t j = 0; j < m; ++j) {
      // A new chunk where the range is used up: before a group, if it fits in one.
      if (j % unit_group == 0) {
        group_range = 0;
        for (std::int64_t u = 0; u < unit_group; ++u) group_range += half_range[j + u];
        if (group_range > max_range) groups_in_range = false;
      }
      const bool whole = group_range <= max_range;
      if ((!whole || j % unit_group == 0) && range + (whole ? group_range : half_range[j]) > max_range) {
        chunk_end[n_chunks++] = j;
        range = 0;
      }
      range += half_range[j];
    }
    chunk_end[n_chunks++] = m;
    if (!(exponent_bound() < max_total)) usable = false;
    if (usable) tabulate_low();
  }

  // Of the exponents outside the products: a power of two beyond 2^40 would cost them their accuracy.
  [[gnu::always_inline]] double exponent_bound() const {
    double bound = numerics::magnitude(gain);
    for (std::int64_t i = 0; i < n; ++i) {
      bound += numerics::magnitude(bias[i]);
      for (std::int64_t j = 0; i < low_bits && j < m; ++j) bound += numerics::magnitude(weights[i * m + j]);
    }
    return bound;
  }

  [[gnu::always_inline]] double pad(std::int64_t j) {
    base[j] = 1;
    for (std::int64_t l = 0; l < n_low; ++l) low[low_at(l, j)] = 0;
    for (std::int64_t i = low_bits; i < n; ++i) step[i * m + j] = 1;
    return 0;
  }

  // Chooses g_j and fills what depends on unit j; returns how far ln(A + C) goes to either side.
  [[gnu::always_inline]] double center(std::int64_t j, double other_bias) {
    double a_low = other_bias, a_high = other_bias, c_low = 0, c_high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double w = weights[i * m + j];
      const double negative = w < 0 ? w : 0, positive = w > 0 ? w : 0;
      if (numerics::magnitude(w) > max_exponent) usable = false;
      if (i < low_bits) {
        c_low -= positive;
        c_high -= negative;
      } else {
        a_low += negative;
        a_high += positive;
        step[i * m + j] = numerics::exp(w);
      }
    }
    const double highest = (a_high > c_high ? a_high : c_high) + ln2, lowest = a_low > c_low ? a_low : c_low;
    const double g = 0.5 * (highest + lowest), half_range = 0.5 * (highest - lowest);
    if (half_range > max_range || a_high - g > max_exponent || g - a_low > max_exponent || c_high - g > max_exponent ||
        g - c_low > max_exponent) {
      usable = false;
    }
    gain += g;
    base[j] = numerics::exp(other_bias - g);
    double factor[max_low];
    factor[0] = numerics::exp(-g);
    for (std::int64_t i = 0; i < low_bits; ++i) {
      const double of_bit = numerics::exp(-weights[i * m + j]);
      for (std::int64_t l = 0, known = std::int64_t{1} << i; l < known; ++l) factor[known + l] = factor[l] * of_bit;
    }
    for (std::int64_t l = 0; l < n_low; ++l) low[low_at(l, j)] = static_cast<T>(factor[l]);
    return half_range;
  }

  [[gnu::always_inline]] std::int64_t low_at(std::int64_t l, std::int64_t j) const {
    return (l / lanes * m + j) * lanes + l % lanes;
  }

  [[gnu::always_inline]] void tabulate_low() {
    double of_bit[max_low_bits];
    for (std::int64_t i = 0; i < low_bits; ++i) {
      of_bit[i] = bias[i];
      for (std::int64_t j = 0; j < m; ++j) of_bit[i] += weights[i * m + j];
    }
    for (std::int64_t l = 0; l < n_low; ++l) {
      double exponent = 0;
      for (std::int64_t i = 0; i < low_bits; ++i) exponent += (l >> i & 1) != 0 ? of_bit[i] : 0.0;
      const ScaledExp split = scaled_exp(exponent);
      low_mantissa[l] = split.mantissa;
      low_exponent[l] = split.exponent;
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
