// Cumulants of numbers x_i from power sums about a center c, S_q = sum_i w_i^k (x_i - c)^q.
//
// With m_q = S_q / S_0 about the mean, kappa_r is a sum over the ways to write r as a sum of parts >= 2: products of
// m_part, times the number of set partitions with blocks of these sizes, times for l parts
//
//   biased    (-1)^(l-1) (l-1)!
//   unbiased  (-1)^(l-1) n^l sum_M c_M (M-1)! / (n (n-1) ... (n-M+1)),  sum_M c_M y^M = prod_parts sum_k S(part, k)
//   (k-1)! y^k
//
// S(., .) the Stirling numbers of the second kind. These are R. A. Fisher's k-statistics (Proc. London Math. Soc. 30
// (1929) 199), found by writing the mean over distinct indices as power sums. No two terms of a coefficient
// cancel.
#pragma once

#include <limits>
#include <type_traits>

#include "config.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

constexpr int most_cumulants = 8;

// Moves the center of sums S_0 ... S_order by `by`.
template <int order, class V>
VFE_HD void shift_center(V (&sums)[order + 1], const V& by) {
  VFE_UNROLL
  for (int p = 1; p <= order; ++p) {
    VFE_UNROLL
    for (int q = order; q >= p; --q) sums[q] = sums[q] - by * sums[q - 1];
  }
}

// How sums of one row, or of several side by side, are told from plain numbers.
VFE_HD double where_greater(double x, double y, double yes, double no) { return x > y ? yes : no; }
template <class V>
VFE_HD V all_equal(double value) {
  if constexpr (std::is_same_v<V, double>) {
    return value;
  } else {
    return V::of(value);
  }
}

// What is known of some numbers: their sums about a center, for the first `powers` powers of their weights. V is a
// number, or several side by side, of as many rows.
template <int order, int powers, class V>
struct PowerSums {
  V center;
  V of[powers][order + 1];

  // The mean, seen from the center; 0 of nothing.
  VFE_HD V offset() const { return of[0][1] / where_greater(of[0][0], V{}, of[0][0], all_equal<V>(1.0)); }
  VFE_HD void move_to(const V& to) {
    const V by = to - center;
    for (int k = 0; k < powers; ++k) shift_center<order>(of[k], by);
    center = to;
  }
  VFE_HD void clear() {
    center = V{};
    for (int k = 0; k < powers; ++k) {
      for (int q = 0; q <= order; ++q) of[k][q] = V{};
    }
  }
  VFE_HD void add(const PowerSums& same_center) {
    for (int k = 0; k < powers; ++k) {
      for (int q = 0; q <= order; ++q) of[k][q] = of[k][q] + same_center.of[k][q];
    }
  }
  // Joined with others, about the mean of all.
  VFE_HD void join(const PowerSums& with) {
    PowerSums other = with;
    const V all = of[0][0] + other.of[0][0], mean = center + offset();
    const V by =
        (other.center + other.offset() - mean) * (other.of[0][0] / where_greater(all, V{}, all, all_equal<V>(1.0)));
    const V to = mean + by;
    move_to(to);
    other.move_to(to);
    for (int k = 0; k < powers; ++k) {
      for (int q = 0; q <= order; ++q) of[k][q] = of[k][q] + other.of[k][q];
    }
  }
};

// A product of moments: that of `part`, times an earlier term.
struct CumulantTerm {
  int order, part, rest;
  double partitions;  // of a set of `order` elements into blocks of these sizes
};
constexpr int n_cumulant_terms = 22;
constexpr CumulantTerm cumulant_terms[n_cumulant_terms] = {
    {0, 0, 0, 1},  {2, 2, 0, 1},   {3, 3, 0, 1},   {4, 4, 0, 1},    {4, 2, 1, 3},  {5, 5, 0, 1},
    {5, 2, 2, 10}, {6, 6, 0, 1},   {6, 2, 3, 15},  {6, 3, 2, 10},   {6, 2, 4, 15}, {7, 7, 0, 1},
    {7, 2, 5, 21}, {7, 3, 3, 35},  {7, 2, 6, 105}, {8, 8, 0, 1},    {8, 2, 7, 28}, {8, 3, 5, 56},
    {8, 4, 3, 35}, {8, 2, 8, 210}, {8, 2, 9, 280}, {8, 2, 10, 105},
};
constexpr int terms_up_to(int order) {
  int n = 1;
  while (n < n_cumulant_terms && cumulant_terms[n].order <= order) ++n;
  return n;
}

// c_M of each term, and of how many parts it is.
struct TermBlocks {
  double of[n_cumulant_terms][most_cumulants + 1];
  int parts[n_cumulant_terms];
};
constexpr TermBlocks blocks_of_terms() {
  double stirling[most_cumulants + 1][most_cumulants + 1] = {};  // S(p, k) (k-1)!
  double partitions[most_cumulants + 1][most_cumulants + 1] = {{1}};
  for (int p = 1; p <= most_cumulants; ++p) {
    double factorial = 1;
    for (int k = 1; k <= p; ++k) {
      partitions[p][k] = k * partitions[p - 1][k] + partitions[p - 1][k - 1];
      stirling[p][k] = partitions[p][k] * factorial;
      factorial *= k;
    }
  }
  TermBlocks blocks{{{1}}, {}};
  for (int t = 1; t < n_cumulant_terms; ++t) {
    const CumulantTerm term = cumulant_terms[t];
    for (int m = 0; m <= most_cumulants; ++m) {
      for (int k = 1; k <= m; ++k) blocks.of[t][m] += stirling[term.part][k] * blocks.of[term.rest][m - k];
    }
    blocks.parts[t] = blocks.parts[term.rest] + 1;
  }
  return blocks;
}
constexpr TermBlocks term_blocks = blocks_of_terms();

// What each term is multiplied by; infinity stands for no end of numbers, and gives the biased estimate.
struct CumulantCoefficients {
  double of[n_cumulant_terms];
};
constexpr CumulantCoefficients cumulant_coefficients(double n) {
  const bool biased = !(n <= std::numeric_limits<double>::max());
  double falling[most_cumulants + 1] = {1}, powers[most_cumulants + 1] = {1};  // (M-1)! / (n)_M, n^l
  for (int m = 1; m <= most_cumulants; ++m) {
    falling[m] = biased ? 0 : falling[m - 1] * ((m > 1 ? m - 1.0 : 1.0) / (n - (m - 1.0)));
    powers[m] = powers[m - 1] * n;
  }
  CumulantCoefficients coefficients{};
  for (int t = 1; t < n_cumulant_terms; ++t) {
    const CumulantTerm term = cumulant_terms[t];
    const int parts = term_blocks.parts[t];
    double sign = 1, fewest = 1;  // (-1)^(l-1), (l-1)!
    for (int l = 1; l < parts; ++l) {
      sign = -sign;
      fewest *= l;
    }
    double total = biased ? fewest : 0;
    for (int m = 1; m <= term.order && !biased; ++m) total += term_blocks.of[t][m] * falling[m] * powers[parts];
    if (n < term.order) total = std::numeric_limits<double>::quiet_NaN();
    coefficients.of[t] = sign * term.partitions * total;
  }
  return coefficients;
}

// Adds term t and those after it to the totals of their orders. Every index is known when compiled, so that all stays
// in registers.
template <int order, int t, class V>
VFE_HD void add_terms(const V (&moments)[order + 1], const CumulantCoefficients& coefficients,
                      V (&product)[terms_up_to(order)], V (&totals)[order]) {
  if constexpr (t < terms_up_to(order)) {
    constexpr CumulantTerm term = cumulant_terms[t];
    product[t] = moments[term.part];
    if constexpr (term.rest != 0) product[t] = product[t] * product[term.rest];
    totals[term.order - 1] = totals[term.order - 1] + coefficients.of[t] * product[t];
    add_terms<order, t + 1>(moments, coefficients, product, totals);
  }
}

// cumulants[r - 1] for r >= 2 from moments about the mean.
template <int order, class V>
VFE_HD void cumulants_of_moments(const V (&moments)[order + 1], const CumulantCoefficients& coefficients,
                                 V (&cumulants)[order]) {
  V product[terms_up_to(order)], totals[order] = {};
  add_terms<order, 1>(moments, coefficients, product, totals);
  for (int r = 1; r < order; ++r) cumulants[r] = totals[r];
}

// Coefficients of a series by degrees of y, z and t, that of z being the least: as many as `count`, each `stride` after
// the one before. In a cube, whose rows are found fastest, or packed.
template <int order, class V, bool packed = false, int stride = 1>
struct SeriesTerms {
  static constexpr int side = order + 1;
  static constexpr int squares_to(int n) { return n * (n + 1) * (2 * n + 1) / 6; }
  static constexpr int count = packed ? squares_to(side) : side * side * side;
  V* first;
  VFE_HD V* row(int y, int z) const {  // of t = z and on
    const int in_cube = (y * side + z) * side + z;
    const int in_turn = count - squares_to(side - z) + (y - z) * (side - z);
    return first + (packed ? in_turn : in_cube) * stride;
  }
};

// The same without bias for weighted numbers: the k-statistic of `order` distinct numbers, averaged over all such
// choices with the product of their weights. With
//
//   G = prod_i (1 + y w_i (1 + z (e^(t (x_i - c)) - 1))),
//
// [y^r z^m] G / (C(r, m) [y^r z^0] G) has the expectation <e^(t (x - c)) - 1>^m, and kappa_r = r! [t^r] of the sum of
// (-1)^(m-1) / m times these. G is the exponential of its logarithm, which is a series in the sums at hand:
//
//   [y^p z^j t^q] ln G = (-1)^(p-1) / p C(p, j) j! S(q, j) / q! sum_i w_i^p (x_i - c)^q
//
// NaN where so few numbers carry the weight that [y^r z^0] G is next to nothing. `product` is for G.
template <int order, bool packed, int stride, class V>
VFE_HD void weighted_cumulants(const V (&sums)[order][order + 1], const SeriesTerms<order, V, packed, stride>& product,
                               V (&cumulants)[order]) {
  constexpr double least = 1e-8;                     // of r! [y^r z^0] G / (sum w)^r
  double surjections[order + 1][order + 1] = {{1}};  // j! S(q, j) / q!
  for (int q = 1; q <= order; ++q) {
    for (int j = 1; j <= q; ++j) surjections[q][j] = (surjections[q - 1][j] + surjections[q - 1][j - 1]) * j / q;
  }
  const V one = all_equal<V>(1.0), scale = one / sums[0][0];
  V scaled[order][order + 1], of_weight = one;  // sums of powers of w / sum w
  for (int p = 1; p <= order; ++p) {
    of_weight = of_weight * scale;
    for (int q = 0; q <= order; ++q) scaled[p - 1][q] = of_weight * sums[p - 1][q];
  }
  for (int q = 0; q <= order; ++q) product.row(0, 0)[q * stride] = q == 0 ? one : V{};
  double factorial = 1;
  for (int r = 1; r <= order; ++r) {
    factorial *= r;
    for (int m = 0; m <= r; ++m) {
      for (int q = m; q <= order; ++q) product.row(r, m)[(q - m) * stride] = V{};
    }
    for (int p = 1; p <= r; ++p) {
      const double share = static_cast<double>(p) / r;
      double choose = (p % 2 == 0 ? -1.0 : 1.0) / p;  // times C(p, j)
      for (int j = 0; j <= p; ++j) {
        for (int q = j; q <= (j == 0 ? 0 : order); ++q) {
          const V of_term = share * (choose * surjections[q][j] * scaled[p - 1][q]);
          for (int m = 0; m <= r - p; ++m) {
            V* to = product.row(r, j + m) + (q - j) * stride;
            const V* from = product.row(r - p, m);
            for (int s = 0; s <= order - q - m; ++s) to[s * stride] = to[s * stride] + of_term * from[s * stride];
          }
        }
        choose = choose * (p - j) / (j + 1);
      }
    }
    const V inverse = where_greater(factorial * *product.row(r, 0), all_equal<V>(least), one / *product.row(r, 0),
                                    all_equal<V>(std::numeric_limits<double>::quiet_NaN()));
    V total = V{};
    double choose = 1;
    for (int m = 1; m <= r; ++m) {
      choose = choose * (r - m + 1) / m;
      total = total + (m % 2 == 0 ? -1.0 : 1.0) / (m * choose) * product.row(r, m)[(r - m) * stride];
    }
    cumulants[r - 1] = factorial * (total * inverse);
  }
}

// Cumulants from sums about a center from which the first is counted. `terms` are for weighted_cumulants.
template <int width, int powers, class Terms, class V>
VFE_HD void estimate_cumulants(const PowerSums<width, powers, V>& given, const CumulantCoefficients& coefficients,
                               const Terms& terms, V (&found)[width]) {
  PowerSums<width, powers, V> sums = given;
  const V weight = sums.of[0][0], nothing = all_equal<V>(std::numeric_limits<double>::quiet_NaN());
  const V offset = sums.offset() + where_greater(weight, V{}, V{}, nothing);
  // Not to center + offset, rounded: the mean may be far from zero.
  for (int k = 0; k < powers; ++k) shift_center<width>(sums.of[k], offset);
  if constexpr (powers > 1) {
    weighted_cumulants<width>(sums.of, terms, found);
  } else {
    const V inverse = all_equal<V>(1.0) / weight;
    V moments[width + 1];
    for (int q = 2; q <= width; ++q) moments[q] = sums.of[0][q] * inverse;
    cumulants_of_moments<width>(moments, coefficients, found);
    found[0] = V{};
  }
  found[0] = found[0] + offset;
}

// All but a block about the same center, which may have had all of the weight but what rounding leaves.
template <int width, int powers, class V>
VFE_HD PowerSums<width, powers, V> without_block(const PowerSums<width, powers, V>& all,
                                                 const PowerSums<width, powers, V>& block, bool weighted) {
  PowerSums<width, powers, V> rest = all;
  for (int k = 0; k < powers; ++k) {
    for (int q = 0; q <= width; ++q) rest.of[k][q] = rest.of[k][q] + -1.0 * block.of[k][q];
  }
  if (weighted) {
    rest.of[0][0] = where_greater(rest.of[0][0], 1e-12 * all.of[0][0], rest.of[0][0],
                                  all_equal<V>(std::numeric_limits<double>::quiet_NaN()));
  }
  return rest;
}

// What an estimate without a block is made with, and how it enters the jackknife's variance: with h = n / m, h - 1,
// 1 - 1/h and 1 / (h - 1) over the number of blocks.
struct LeftOut {
  CumulantCoefficients coefficients;
  double others, of_mean, of_square;
};
constexpr CumulantCoefficients coefficients_of(double n, bool unbiased) {
  return cumulant_coefficients(unbiased ? n : std::numeric_limits<double>::infinity());
}
constexpr double sum_of(const double* counts, std::int64_t n_blocks) {
  double n = 0;
  for (std::int64_t b = 0; b < n_blocks; ++b) n += counts[b];
  return n;
}
constexpr void fill_left_out(const double* counts, std::int64_t n_blocks, bool unbiased, LeftOut* left_out) {
  const double n = sum_of(counts, n_blocks);
  for (std::int64_t b = 0; b < n_blocks; ++b) {
    const bool as_before = b > 0 && counts[b] == counts[b - 1];
    const double others = n / counts[b] - 1.0;
    left_out[b] = {as_before ? left_out[b - 1].coefficients : coefficients_of(n - counts[b], unbiased), others,
                   1.0 - counts[b] / n, 1.0 / (others * static_cast<double>(n_blocks))};
  }
}

// Standard errors from how far the estimates without each block are off those of all, which are read twice (F. Busing,
// E. Meijer, R. van der Leeden 1999), times 1 + kappa / (6 n) for n pseudo-values of kurtosis kappa (P. Hall 1988;
// docs/cumulants.md). In units of their size: no power of what is measured leaves the range.
template <int width, class V>
struct Jackknife {
  V mean[width] = {}, size[width] = {}, square[width] = {}, fourth[width] = {};  // `size` is 1 / size once scaled

  VFE_HD void center(const LeftOut& by, const V* rest, const V* all) {
    VFE_UNROLL
    for (int r = 0; r < width; ++r) {
      const V off = rest[r] - all[r];
      mean[r] = mean[r] + by.of_mean * off;
      size[r] = size[r] + where_greater(off, V{}, off, -1.0 * off);
    }
  }
  VFE_HD void scale() {
    VFE_UNROLL
    for (int r = 0; r < width; ++r) {
      size[r] = where_greater(size[r], all_equal<V>(1e-307), all_equal<V>(1.0) / size[r], V{});
      mean[r] = size[r] * mean[r];
    }
  }
  VFE_HD void add(const LeftOut& by, const V* rest, const V* all) {
    VFE_UNROLL
    for (int r = 0; r < width; ++r) {
      const V off = by.others * (size[r] * (rest[r] - all[r])) - mean[r], term = by.of_square * (off * off);
      square[r] = square[r] + term;
      fourth[r] = fourth[r] + term * term;
    }
  }
  // What the root of `square` is multiplied by; 0 without any spread.
  VFE_HD V factor(int r) const {
    const V kurtosis = where_greater(square[r], V{}, fourth[r] / (all_equal<V>(6.0) * (square[r] * square[r])), V{});
    return where_greater(size[r], V{}, (all_equal<V>(1.0) + kurtosis) / size[r], V{});
  }
};

}  // namespace vfe::numerics::inline VFE_LEVEL
