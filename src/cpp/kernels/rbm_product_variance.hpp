// The variance of the energy of an RBM in product form: as the moments (rbm_product_moments.hpp), but what is
// wanted of w / f_j are two sums over the units of each state, with x_j = x_hj + x_lj:
//
//   sum_j x_j w sigma_j = sum_j x_j A_j w / f_j,    sum_j x_j^2 w^2 sigma_j (1 - sigma_j) = sum_j (x_j A_j w / f_j)
//   (x_j C_j w / f_j)
//
// from which follow the energy E_s = -c.s - sum_j x_j sigma_j of state s with the other layer at its mean and the
// variance around it. Neither is a difference.
#pragma once

#include "rbm_product_moments.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

struct ProductVariance : ProductMoments {
  std::int64_t n_others;                  // units that are not padding
  const double* other_bias;               // (m,)
  runtime::Buffer<double> low_fields;     // like form.low: x_lj
  runtime::Buffer<double> low_bias;       // (n_low,): c.s of the low bits
  runtime::Buffer<double> high_fields;    // (moment_rows, m): x_hj of the rows at hand
  runtime::Buffer<double> first, second;  // (moment_rows, n_low): the two sums
  double spread = 0;                      // sum w [(E_s - mean)^2 + variance], times 2^-reference

  ProductVariance(const ProductForm<double>& f, std::int64_t bits, std::int64_t n_real, const double* bias)
      : ProductMoments(f, bits),
        n_others(n_real),
        other_bias(bias),
        low_fields(f.m * f.n_low),
        low_bias(f.n_low),
        high_fields(moment_rows * f.m),
        first(moment_rows * f.n_low),
        second(moment_rows * f.n_low) {
    for (std::int64_t l = 0; l < form.n_low; ++l) {
      low_bias[l] = 0;
      for (std::int64_t i = 0; i < form.low_bits; ++i) low_bias[l] += (l >> i & 1) != 0 ? form.bias[i] : 0.0;
      for (std::int64_t j = 0; j < form.m; ++j) {
        double x = 0;
        for (std::int64_t i = 0; i < form.low_bits; ++i) x += (l >> i & 1) != 0 ? form.weights[i * form.m + j] : 0.0;
        low_fields[form.low_at(l, j)] = x;
      }
    }
  }

  // Of the high states from first_high on; `mean` is that of the energy times beta.
  void sum(std::int64_t first_high, double mean) {
    start();
    spread = 0;
    HighFactors<double> high(form);
    double high_bias[moment_rows];
    for (std::int64_t h = 0; h < std::int64_t{1} << range_bits; h += moment_rows) {
      runtime::check_interrupt();
      const std::int64_t before = reference;
      find_weights(high, first_high + h);
      spread = spread == 0 ? 0 : spread * ScaledSum::power(before - reference);
      for (std::int64_t r = 0; r < moment_rows; ++r) high_bias[r] = set_fields(first_high + h + r, r);
      for (std::int64_t k = 0; k < moment_rows * form.n_low; ++k) first[k] = second[k] = 0;
      for (std::int64_t group = 0; group < form.m / unit_group; ++group) {
        for (std::int64_t r = 0; r < moment_rows; ++r) divide_energies(group, r);
      }
      for (std::int64_t r = 0; r < moment_rows; ++r) {
        for (std::int64_t l = 0; l < form.n_low; ++l) {
          const double w = weights[r * form.n_low + l];
          if (w < 0x1p-400) continue;
          const double deviation = -(high_bias[r] + low_bias[l]) - first[r * form.n_low + l] / w - mean;
          spread += w * (deviation * deviation + second[r * form.n_low + l] / w / w);
        }
        carry(h + r, row_sums.data() + r * size);
      }
    }
  }

  // x_hj of a high state; returns c.s of its bits.
  VFE_HD double set_fields(std::int64_t high, std::int64_t r) {
    double* __restrict fields = high_fields.data() + r * form.m;
    for (std::int64_t j = 0; j < form.m; ++j) fields[j] = j < n_others ? other_bias[j] : 0.0;
    double own = 0;
    for (std::int64_t i = form.low_bits; i < form.n; ++i) {
      if ((high >> (i - form.low_bits) & 1) == 0) continue;
      own += form.bias[i];
      const double* __restrict row = form.weights + i * form.m;
      for (std::int64_t j = 0; j < form.m; ++j) fields[j] += row[j];
    }
    return own;
  }

  VFE_HD void divide_energies(std::int64_t group, std::int64_t r) {
    const double* a = factors.data() + r * form.m + group * unit_group;
    const double* x_high = high_fields.data() + r * form.m + group * unit_group;
    const double* w = weights.data() + r * form.n_low;
    const double* products = group_products.data() + (group * moment_rows + r) * form.n_low;
    for (std::int64_t l = 0; l < form.n_low; l += product_vector) {
      const std::int64_t at_low = form.low_at(l, group * unit_group);
      const double* c = form.low.data() + at_low;
      const double* x_low = low_fields.data() + at_low;
      ProductVector f[unit_group], left[unit_group];
      left[0] = at(w + l) / at(products + l);
      VFE_UNROLL
      for (std::int64_t u = 0; u < unit_group; ++u) {
        f[u] = at(c + u * product_lanes) + a[u];
        if (u + 1 < unit_group) left[u + 1] = left[u] * f[u];
      }
      ProductVector right = f[unit_group - 1];
      ProductVector energy = at(first.data() + r * form.n_low + l), square = at(second.data() + r * form.n_low + l);
      VFE_UNROLL
      for (std::int64_t k = 0; k < unit_group; ++k) {
        const std::int64_t u = unit_group - 1 - k;
        ProductVector quotient = k == 0 ? left[u] : left[u] * right;
        if (k > 0 && u > 0) right *= f[u];
        quotient *= at(x_low + u * product_lanes) + x_high[u];
        const ProductVector on = quotient * a[u];
        energy += on;
        square += on * (quotient * at(c + u * product_lanes));
      }
      at(first.data() + r * form.n_low + l) = energy;
      at(second.data() + r * form.n_low + l) = square;
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
