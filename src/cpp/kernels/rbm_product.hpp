// Sums over the states of an RBM without a transcendental function in the loop: the technique of
// `exact_rbm` for models whose weights leave room for it. Here ln Z; the moments are in
// rbm_product_moments.hpp.
//
// Split the bits of the enumerated layer in a high and a low part, x_j = x_hj + x_lj. Then
//
//   1 + e^(x_hj + x_lj) = e^x_lj (A_hj + C_lj),   A = e^x_hj,  C = e^-x_lj
//
// so the weight of a state is e^(its own bias + sum_j x_lj) prod_j (A_hj + C_lj): one addition and one
// multiplication a state and unit. Everything is positive: nothing cancels, and m units cost a relative
// error of at most 3 m eps. A unit's A and C are divided by a common factor e^g_j that centers ln(A + C);
// after a chunk of units whose products cannot leave the range of a double the exponent is taken out.
// Each state has a lane of its own, so the order of its products is that of the units, whatever the
// width of the vectors.
#pragma once

#include "../runtime/threads.hpp"
#include "product_form.hpp"
#include "vectors.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t product_rows = vector_bytes / 16;
constexpr std::int64_t product_group = 4;  // high states prepared together, a multiple of product_rows

// Products are formed in T: float64, or float32 at twice the rate, whose errors average out over the states.
template <class T>
struct ProductType {
  using Power = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;
  using Vector = kernels::Vector<T>;
  using Powers = kernels::Vector<Power>;
  static constexpr std::int64_t vector = vector_bytes / static_cast<std::int64_t>(sizeof(T));
  static constexpr std::int64_t lanes = ProductForm<T>::lanes;
};

// A_hj e^-g_j of one high state after another: the product over the set bits, highest bit first, of which
// consecutive states share all but the last few factors.
template <class T>
struct HighFactors {
  const ProductForm<T>& form;
  std::int64_t n_bits;
  runtime::Buffer<double> levels;        // (n_bits + 1, m)
  runtime::Buffer<const double*> level;  // (n_bits + 1,): the level, or the one above if the bit is 0
  std::int64_t current = -1;

  explicit HighFactors(const ProductForm<T>& f)
      : form(f), n_bits(f.n - f.low_bits), levels((n_bits + 1) * f.m), level(n_bits + 1) {
    level[0] = form.base.data();
  }

  // e^(gain and the biases of the set bits).
  VFE_HD ScaledExp own_weight(std::int64_t high) const {
    double exponent = form.gain;
    for (std::int64_t i = form.low_bits; i < form.n; ++i) {
      if ((high >> (i - form.low_bits) & 1) != 0) exponent += form.bias[i];
    }
    return scaled_exp(exponent);
  }

  // The factors (m,); they stay until the next call.
  VFE_HD const double* at(std::int64_t high) {
    const std::int64_t changed = current < 0 ? (std::int64_t{1} << n_bits) - 1 : current ^ high;
    for (std::int64_t k = 1; k <= n_bits; ++k) {
      const std::int64_t bit = n_bits - k;
      if ((changed >> bit) == 0) continue;
      level[k] = level[k - 1];
      if ((high >> bit & 1) == 0) continue;
      double* __restrict product = levels.data() + k * form.m;
      const double* __restrict above = level[k - 1];
      const double* __restrict factor = form.step.data() + (form.low_bits + bit) * form.m;
      for (std::int64_t j = 0; j < form.m; ++j) product[j] = above[j] * factor[j];
      level[k] = product;
    }
    current = high;
    return level[n_bits];
  }
};

// Moves the exponents of positive normal numbers to `powers`.
template <class T>
VFE_HD void take_out_exponent(typename ProductType<T>::Vector& product, typename ProductType<T>::Powers& powers) {
  using Power = typename ProductType<T>::Power;
  using Powers = typename ProductType<T>::Powers;
  constexpr int width = numerics::Format<T>::mantissa_bits;
  constexpr Power bias = numerics::Format<T>::bias;
  const Powers bits = std::bit_cast<Powers>(product);
  powers += (bits >> width) - bias;
  product = std::bit_cast<typename ProductType<T>::Vector>((bits & ((Power{1} << width) - 1)) | (bias << width));
}

// prod_j (A_j + C_lj) for `product_rows` high states and `lanes` low states from first_low on, as mantissas in
// [1, 2) and powers of two, (product_rows, n_low).
template <class T>
VFE_HD void product_block(const ProductForm<T>& form, const T* const* high, std::int64_t first_low, double* mantissa,
                          std::int64_t* exponent) {
  using Vector = typename ProductType<T>::Vector;
  using Powers = typename ProductType<T>::Powers;
  constexpr std::int64_t width = ProductType<T>::vector, vectors = ProductType<T>::lanes / width;
  Vector product[product_rows][vectors];
  Powers powers[product_rows][vectors];
  VFE_UNROLL
  for (std::int64_t r = 0; r < product_rows; ++r) {
    VFE_UNROLL
    for (std::int64_t v = 0; v < vectors; ++v) {
      product[r][v] = Vector{} + T(1);
      powers[r][v] = Powers{};
    }
  }
  std::int64_t j = 0;
  for (std::int64_t chunk = 0; chunk < form.n_chunks; ++chunk) {
    for (const std::int64_t end = form.chunk_end[chunk]; j < end; ++j) {
      const auto* c = reinterpret_cast<const Vector*>(form.low.data() + form.low_at(first_low, j));
      VFE_UNROLL
      for (std::int64_t r = 0; r < product_rows; ++r) {
        VFE_UNROLL
        for (std::int64_t v = 0; v < vectors; ++v) product[r][v] *= c[v] + high[r][j];
      }
    }
    VFE_UNROLL
    for (std::int64_t r = 0; r < product_rows; ++r) {
      VFE_UNROLL
      for (std::int64_t v = 0; v < vectors; ++v) take_out_exponent<T>(product[r][v], powers[r][v]);
    }
  }
  using Doubles [[gnu::vector_size(width * 8)]] = double;
  using Integers [[gnu::vector_size(width * 8)]] = std::int64_t;
  VFE_UNROLL
  for (std::int64_t r = 0; r < product_rows; ++r) {
    VFE_UNROLL
    for (std::int64_t v = 0; v < vectors; ++v) {
      const std::int64_t at = r * form.n_low + first_low + v * width;
      *reinterpret_cast<Doubles*>(mantissa + at) = __builtin_convertvector(product[r][v], Doubles);
      *reinterpret_cast<Integers*>(exponent + at) = __builtin_convertvector(powers[r][v], Integers);
    }
  }
}

// Eight states have sums of their own, whatever the width of the vectors.
constexpr std::int64_t lane_block = 8;
using Lanes [[gnu::vector_size(8 * lane_block)]] = double;

VFE_HD double sum_of_lanes(const Lanes& x) { return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])); }
VFE_HD double sum_of_row(const double* values, std::int64_t count) {
  Lanes sum = {};
  for (std::int64_t k = 0; k < count; k += lane_block) sum += *reinterpret_cast<const Lanes*>(values + k);
  return sum_of_lanes(sum);
}

// The weights of a high state with all low states, from their products.
template <class T>
VFE_HD ScaledSum weigh_row(const ProductForm<T>& form, double* weight, std::int64_t* exponent, const ScaledExp& own) {
  std::int64_t highest = exponent[0] + form.low_exponent[0];
  for (std::int64_t l = 0; l < form.n_low; ++l) {
    exponent[l] += form.low_exponent[l];
    highest = exponent[l] > highest ? exponent[l] : highest;
  }
  for (std::int64_t l = 0; l < form.n_low; ++l) {
    weight[l] *= form.low_mantissa[l] * ScaledSum::power(exponent[l] - highest);
  }
  return {highest + own.exponent, own.mantissa * sum_of_row(weight, form.n_low)};
}

// The sum of the weights of all low states of the high states [first, last), a multiple of product_group.
template <class T>
ScaledSum sum_products(const ProductForm<T>& form, std::int64_t first, std::int64_t last) {
  HighFactors<T> factors(form);
  const runtime::Buffer<T> rows(product_group * form.m);
  const runtime::Buffer<double> weights(product_rows * form.n_low);
  const runtime::Buffer<std::int64_t> exponents(product_rows * form.n_low);
  ScaledSum total;
  for (std::int64_t group = first; group < last; group += product_group) {
    runtime::check_interrupt();
    const T* row[product_group];
    ScaledExp own[product_group];
    for (std::int64_t g = 0; g < product_group; ++g) {
      T* copy = rows.data() + g * form.m;
      const double* found = factors.at(group + g);
      for (std::int64_t j = 0; j < form.m; ++j) copy[j] = static_cast<T>(found[j]);
      row[g] = copy;
      own[g] = factors.own_weight(group + g);
    }
    for (std::int64_t g = 0; g < product_group; g += product_rows) {
      for (std::int64_t l = 0; l < form.n_low; l += ProductType<T>::lanes) {
        product_block(form, row + g, l, weights.data(), exponents.data());
      }
      for (std::int64_t r = 0; r < product_rows; ++r) {
        const std::int64_t at = r * form.n_low;
        total.add(weigh_row(form, weights.data() + at, exponents.data() + at, own[g + r]));
      }
    }
  }
  return total;
}

}  // namespace vfe::kernels::inline VFE_LEVEL
