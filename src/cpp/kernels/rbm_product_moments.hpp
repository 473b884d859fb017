// The moments of an RBM in product form (rbm_product.hpp): the products differentiated backwards.
//
// With f_j = A_hj + C_lj the weight of a state is w = H_h L_l prod_j f_j, and w sigma_j = A_hj w / f_j. Units
// come in groups of 4 with products F: w / F is one division a group, and within the group the product of the
// others is a product from the left times one from the right. So w / f_j costs 2 multiplications and
// an addition; two sums take it up:
//
//   over low states   G_hj = A_hj sum_l w / f_j,   from which <s_i t_j> for the high bits i,
//   over high states  G_lj = sum_h A_hj w / f_j,   for the low bits i.
//
// All terms are positive. Eight high states are done together, and eight low states have sums of their own,
// whatever the width of the vectors.
#pragma once

#include "rbm_product.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t moment_rows = 8;   // high states done together
constexpr std::int64_t divided_rows = 2;  // of them in a pass backwards
using ProductVector = ProductType<double>::Vector;
using ExponentVector = ProductType<double>::Powers;
constexpr std::int64_t product_vector = ProductType<double>::vector, product_lanes = ProductType<double>::lanes;

// Sums over a range of states, as multiples of 2^reference. A vector of sums has m + 1 numbers: w sigma_j
// for each unit, and w.
struct ProductMoments {
  const ProductForm<double>& form;
  std::int64_t range_bits;  // a range has 2^range_bits high states
  std::int64_t size;
  std::int64_t reference = 0;
  runtime::Buffer<double> low;         // like form.low: over high states
  runtime::Buffer<double> low_weight;  // (n_low,): w
  runtime::Buffer<double> by_bit;      // (range_bits, size): over the states in which the bit is set
  runtime::Buffer<double> levels;      // (range_bits + 1, size): over the last block of 2^k states
  // Of the rows at hand:
  runtime::Buffer<double> factors;         // (moment_rows, m): A
  runtime::Buffer<double> group_products;  // (m / unit_group, moment_rows, n_low): F
  runtime::Buffer<double> weights;         // (moment_rows, n_low): w
  runtime::Buffer<std::int64_t> exponents;
  runtime::Buffer<double> row_sums;  // (moment_rows, size)

  ProductMoments(const ProductForm<double>& f, std::int64_t bits)
      : form(f),
        range_bits(bits),
        size(f.m + 1),
        low(f.m * f.n_low),
        low_weight(f.n_low),
        by_bit(bits * size),
        levels((bits + 1) * size),
        factors(moment_rows * f.m),
        group_products(f.m / unit_group * moment_rows * f.n_low),
        weights(moment_rows * f.n_low),
        exponents(moment_rows * f.n_low),
        row_sums(moment_rows * size) {}

  VFE_HD static void scale(double* values, std::int64_t count, double factor) {
    for (std::int64_t k = 0; k < count; ++k) values[k] = factor == 0 ? 0.0 : values[k] * factor;
  }
  VFE_HD void scale_all(double factor) {
    scale(low.data(), form.m * form.n_low, factor);
    scale(low_weight.data(), form.n_low, factor);
    scale(by_bit.data(), range_bits * size, factor);
    scale(levels.data(), (range_bits + 1) * size, factor);
  }
  VFE_HD const double* total() const { return levels.data() + range_bits * size; }

  VFE_HD void start() {
    scale_all(0);
    reference = ScaledSum().reference;
  }

  void sum(std::int64_t first_high) {
    start();
    HighFactors<double> high(form);
    for (std::int64_t h = 0; h < std::int64_t{1} << range_bits; h += moment_rows) {
      runtime::check_interrupt();
      find_weights(high, first_high + h);
      for (std::int64_t group = 0; group < form.m / unit_group; ++group) {
        for (std::int64_t r = 0; r < moment_rows; r += divided_rows) divide(group, r);
      }
      for (std::int64_t r = 0; r < moment_rows; ++r) carry(h + r, row_sums.data() + r * size);
    }
  }

  // The weights of moment_rows high states with all low states, as multiples of 2^reference.
  VFE_HD void find_weights(HighFactors<double>& high, std::int64_t first) {
    for (std::int64_t r = 0; r < moment_rows; ++r) {
      const double* found = high.at(first + r);
      for (std::int64_t j = 0; j < form.m; ++j) factors[r * form.m + j] = found[j];
    }
    for (std::int64_t r = 0; r < moment_rows; r += product_rows) {
      for (std::int64_t l = 0; l < form.n_low; l += product_lanes) multiply(r, l);
    }
    for (std::int64_t r = 0; r < moment_rows; ++r) weigh(r, high.own_weight(first + r));
    set_common_reference();
  }

  // The products of product_rows high states from r on with product_lanes low states from l on.
  VFE_HD void multiply(std::int64_t r, std::int64_t l) {
    constexpr std::int64_t vectors = product_lanes / product_vector;
    ProductVector product[product_rows][vectors];
    ExponentVector powers[product_rows][vectors];
    VFE_UNROLL
    for (std::int64_t i = 0; i < product_rows; ++i) {
      VFE_UNROLL
      for (std::int64_t v = 0; v < vectors; ++v) {
        product[i][v] = ProductVector{} + 1.0;
        powers[i][v] = ExponentVector{};
      }
    }
    std::int64_t chunk = 0;
    for (std::int64_t j = 0; j < form.m; j += unit_group) {
      ProductVector of_group[product_rows][vectors];
      VFE_UNROLL
      for (std::int64_t u = 0; u < unit_group; ++u) {
        const auto* c = reinterpret_cast<const ProductVector*>(form.low.data() + form.low_at(l, j + u));
        VFE_UNROLL
        for (std::int64_t i = 0; i < product_rows; ++i) {
          const double a = factors[(r + i) * form.m + j + u];
          VFE_UNROLL
          for (std::int64_t v = 0; v < vectors; ++v) of_group[i][v] = u == 0 ? c[v] + a : of_group[i][v] * (c[v] + a);
        }
      }
      VFE_UNROLL
      for (std::int64_t i = 0; i < product_rows; ++i) {
        double* kept = group_products.data() + (j / unit_group * moment_rows + r + i) * form.n_low + l;
        VFE_UNROLL
        for (std::int64_t v = 0; v < vectors; ++v) {
          reinterpret_cast<ProductVector*>(kept)[v] = of_group[i][v];
          product[i][v] *= of_group[i][v];
        }
      }
      if (j + unit_group < form.chunk_end[chunk]) continue;
      ++chunk;
      VFE_UNROLL
      for (std::int64_t i = 0; i < product_rows; ++i) {
        VFE_UNROLL
        for (std::int64_t v = 0; v < vectors; ++v) take_out_exponent<double>(product[i][v], powers[i][v]);
      }
    }
    for (std::int64_t i = 0; i < product_rows; ++i) {
      for (std::int64_t v = 0; v < vectors; ++v) {
        const std::int64_t at = (r + i) * form.n_low + l + v * product_vector;
        *reinterpret_cast<ProductVector*>(weights.data() + at) = product[i][v];
        *reinterpret_cast<ExponentVector*>(exponents.data() + at) = powers[i][v];
      }
    }
  }

  // From products to weights of states, exponents apart.
  VFE_HD void weigh(std::int64_t r, const ScaledExp& own) {
    for (std::int64_t l = 0; l < form.n_low; ++l) {
      weights[r * form.n_low + l] *= form.low_mantissa[l] * own.mantissa;
      exponents[r * form.n_low + l] += form.low_exponent[l] + own.exponent;
    }
  }

  VFE_HD void set_common_reference() {
    const std::int64_t count = moment_rows * form.n_low;
    std::int64_t highest = exponents[0];
    for (std::int64_t k = 1; k < count; ++k) highest = exponents[k] > highest ? exponents[k] : highest;
    if (highest > reference + ScaledSum::slack) [[unlikely]] {
      scale_all(ScaledSum::power(reference - highest));
      reference = highest;
    }
    for (std::int64_t k = 0; k < count; ++k) weights[k] *= ScaledSum::power(exponents[k] - reference);
    for (std::int64_t r = 0; r < moment_rows; ++r) {
      const double* w = weights.data() + r * form.n_low;
      row_sums[r * size + form.m] = sum_of_row(w, form.n_low);
      for (std::int64_t l = 0; l < form.n_low; ++l) low_weight[l] += w[l];
    }
  }

  // w / f_j for the units of a group, divided_rows high states from r on, and all low states: into `low` and
  // `row_sums`. `low` takes one row after the other, whatever divided_rows is.
  VFE_HD void divide(std::int64_t group, std::int64_t r) {
    const double *a[divided_rows], *w[divided_rows], *products[divided_rows];
    for (std::int64_t i = 0; i < divided_rows; ++i) {
      a[i] = factors.data() + (r + i) * form.m + group * unit_group;
      w[i] = weights.data() + (r + i) * form.n_low;
      products[i] = group_products.data() + (group * moment_rows + r + i) * form.n_low;
    }
    alignas(64) double lanes[divided_rows * unit_group][lane_block];
    for (std::int64_t part = 0; part < lane_block; part += product_vector) {
      ProductVector sum[divided_rows][unit_group];
      VFE_UNROLL
      for (std::int64_t i = 0; i < divided_rows; ++i) {
        VFE_UNROLL
        for (std::int64_t u = 0; u < unit_group; ++u) sum[i][u] = ProductVector{};
      }
      for (std::int64_t l = part; l < form.n_low; l += lane_block) {
        const std::int64_t first = form.low_at(l, group * unit_group);
        const double* c = form.low.data() + first;
        double* into = low.data() + first;
        ProductVector taken[unit_group];
        VFE_UNROLL
        for (std::int64_t u = 0; u < unit_group; ++u) taken[u] = at(into + u * product_lanes);
        VFE_UNROLL
        for (std::int64_t i = 0; i < divided_rows; ++i) {
          ProductVector f[unit_group], left[unit_group];
          left[0] = at(w[i] + l) / at(products[i] + l);
          VFE_UNROLL
          for (std::int64_t u = 0; u < unit_group; ++u) {
            f[u] = at(c + u * product_lanes) + a[i][u];
            if (u + 1 < unit_group) left[u + 1] = left[u] * f[u];
          }
          ProductVector right = f[unit_group - 1];
          VFE_UNROLL
          for (std::int64_t k = 0; k < unit_group; ++k) {
            const std::int64_t u = unit_group - 1 - k;
            const ProductVector quotient = k == 0 ? left[u] : left[u] * right;
            if (k > 0 && u > 0) right *= f[u];
            sum[i][u] += quotient;
            taken[u] += quotient * a[i][u];
          }
        }
        VFE_UNROLL
        for (std::int64_t u = 0; u < unit_group; ++u) at(into + u * product_lanes) = taken[u];
      }
      VFE_UNROLL
      for (std::int64_t i = 0; i < divided_rows; ++i) {
        VFE_UNROLL
        for (std::int64_t u = 0; u < unit_group; ++u) at(lanes[i * unit_group + u] + part) = sum[i][u];
      }
    }
    Lanes total;
    sums_of_lanes(lanes, total);
    for (std::int64_t i = 0; i < divided_rows; ++i) {
      double* sums = row_sums.data() + (r + i) * size + group * unit_group;
      for (std::int64_t u = 0; u < unit_group; ++u) sums[u] = a[i][u] * total[i * unit_group + u];
    }
  }

  VFE_HD static const ProductVector& at(const double* p) { return *reinterpret_cast<const ProductVector*>(p); }
  VFE_HD static ProductVector& at(double* p) { return *reinterpret_cast<ProductVector*>(p); }
  // sum_of_lanes for eight of them at once.
  VFE_HD static void sums_of_lanes(const double (&x)[lane_block][lane_block], Lanes& sums) {
    Lanes pair[4], four[2];
    VFE_UNROLL
    for (int k = 0; k < 4; ++k) {
      const Lanes &first = *reinterpret_cast<const Lanes*>(x[2 * k]),
                  &second = *reinterpret_cast<const Lanes*>(x[2 * k + 1]);
      pair[k] = __builtin_shufflevector(first, second, 0, 8, 2, 10, 4, 12, 6, 14) +
                __builtin_shufflevector(first, second, 1, 9, 3, 11, 5, 13, 7, 15);
    }
    VFE_UNROLL
    for (int k = 0; k < 2; ++k) {
      four[k] = __builtin_shufflevector(pair[2 * k], pair[2 * k + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
                __builtin_shufflevector(pair[2 * k], pair[2 * k + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    sums = __builtin_shufflevector(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15);
  }

  // Takes up the sums of high state h of the range, as a binary counter does: when a block of 2^k states whose
  // bit k is set is complete, it is added to that bit and joined to its lower neighbor.
  VFE_HD void carry(std::int64_t h, double* sums) {
    std::int64_t k = 0;
    for (; (h >> k & 1) != 0; ++k) {
      double* __restrict bit = by_bit.data() + k * size;
      const double* __restrict lower = levels.data() + k * size;
      for (std::int64_t j = 0; j < size; ++j) {
        bit[j] += sums[j];
        sums[j] += lower[j];
      }
    }
    double* __restrict level = levels.data() + k * size;
    for (std::int64_t j = 0; j < size; ++j) level[j] = sums[j];
  }

  // Sums over the low states in which bit i is set, (m,) each, for i from low_bits - 1 down to 0: take(i, sums).
  // The upper half of `low` is added to the lower one, again and again.
  template <class Take>
  VFE_HD void fold_low(const Take& take) {
    const std::int64_t block = form.m * product_lanes;
    const runtime::Buffer<double> upper(block), sums(size);
    for (std::int64_t i = form.low_bits - 1; i >= 0; --i) {
      const std::int64_t half = std::int64_t{1} << i;
      const std::int64_t blocks = half / product_lanes;
      for (std::int64_t k = 0; k < block; ++k) {
        upper[k] = blocks == 0 && (k % product_lanes & half) != 0 ? low[k] : 0.0;
      }
      for (std::int64_t b = 0; b < blocks; ++b) {
        double* __restrict lower = low.data() + b * block;
        const double* __restrict higher = low.data() + (b + blocks) * block;
        for (std::int64_t k = 0; k < block; ++k) {
          upper[k] += higher[k];
          lower[k] += higher[k];
        }
      }
      for (std::int64_t j = 0; j < form.m; ++j) {
        sums[j] = sum_of_row(upper.data() + j * product_lanes, product_lanes);
      }
      sums[form.m] = 0;
      for (std::int64_t l = 0; l < form.n_low; ++l) sums[form.m] += (l >> i & 1) != 0 ? low_weight[l] : 0.0;
      take(i, sums.data());
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
