// Exact ln Z and moments of an RBM, by enumeration of its smaller layer, a range of states at a time.
//
//   Z = sum_s e^(beta c.s) prod_j (1 + e^(beta x_j(s))),   x_j(s) = d_j + sum_i s_i W_ij
//
// where s runs over the 2^n states of the smaller layer (biases c) and j over the m units of the other
// (biases d). With w(s) the summand, sigma_j = sigmoid(beta x_j):
//
//   <s_i> = sum_s w s_i / Z,  <t_j> = sum_s w sigma_j / Z,  <s_i t_j> = sum_s w s_i sigma_j / Z,
//   Var E = sum_s w [(E_s - <E>)^2 + sum_j x_j^2 sigma_j (1 - sigma_j)] / Z,  E_s = -c.s - sum_j x_j sigma_j.
//
// The states are cut in 2^range_bits ranges that depend on (n, m) alone. A range's sums depend on the model and
// the range, not on who computes it; added in order of the ranges they give the same bits everywhere.
//
// Cost: 2^n m states times units. ln Z: an addition and a multiplication each (rbm_product.hpp), for models
// of n >= 7 whose fields stay within some hundreds and whose biases add up to less than 2^40; an exponential and a
// multiplication each otherwise. The moments: 4 additions and 4 multiplications (rbm_product_moments.hpp); otherwise an
// exponential, a division and 4 more. Var E, given <E>: 4 additions and 8 multiplications (rbm_product_variance.hpp),
// or exponentials. Memory: O(n m) a thread and range, whatever n.
//
// Precision: float64 throughout, for float32 models too, unless float32 products are asked for: then each of a state's
// m factors is off by 2^-24, and the average over the states by much less; at most m 2^-22 of ln Z, some 1e-7 where
// many states matter, up to 3e-6 where few do. A field is a sum of at most n + 1 numbers, a product one of m factors;
// the sums over states run in three levels (low bits, high bits, ranges). All terms of Z and of <s>, <t>, <s t> are
// positive, nothing cancels: the tests hold |error of ln Z| <= 1e-12 max(1, |ln Z|) and a relative error of each of
// these moments <= 1e-12, for |W| <= 60. (When Z is 1 + z with a tiny z,
// ln Z has z's absolute error, not its relative one.)
//
// The CUDA twin keeps the same bounds, not the same bits: it cuts the layer in other low and high bits (which may also
// decide otherwise whether a model's range allows products) and sums over its tiles in an order of its own. Rows do not
// depend on which ranges a call asks for.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

// What a range adds up to: numbers that are multiples of 2^sums[0], sums[1] = sum w, and then
//   moments: sum w s_i (n,), sum w t_j (m,), sum w s_i t_j (n, m);
//   variance: sum w [...], the bracket above.
enum class RbmSums { log_z, moments, variance };

// Products in float64, those of ln Z in float32, or exponentials whatever the model.
enum class RbmProducts { double_precision, single_precision, none };

struct ExactRbmArgs {
  RbmView rbm;
  double beta;
  RbmSums what;
  double energy;  // <E>, for the variance
  std::int64_t first_range, n_ranges;
  double* sums;            // (n_ranges, exact_rbm_sums(n, m, what)): out
  RbmProducts products;    // what may be used where its range allows
  bool* product_form;      // out: whether they were found in product form
  bool* single_precision;  // out: whether in float32
  int num_threads;
};

inline std::int64_t smaller_layer(const RbmView& rbm) {
  return rbm.n_visible < rbm.n_hidden ? rbm.n_visible : rbm.n_hidden;
}
inline std::int64_t larger_layer(const RbmView& rbm) {
  return rbm.n_visible < rbm.n_hidden ? rbm.n_hidden : rbm.n_visible;
}

constexpr std::int64_t max_enumerated_units = 62;

// The states are cut in 2^exact_rbm_range_bits: about 2^22 states times units a range, at most 1,024 ranges.
inline std::int64_t exact_rbm_range_bits(std::int64_t n, std::int64_t m) {
  std::int64_t bits = n - 22;
  for (std::int64_t rest = m; rest > 1; rest /= 2) ++bits;
  const std::int64_t most = n - 11 < 10 ? n - 11 : 10;
  return bits < most ? (bits > 0 ? bits : 0) : (most > 0 ? most : 0);
}

inline std::int64_t exact_rbm_sums(std::int64_t n, std::int64_t m, RbmSums what) {
  return 2 + (what == RbmSums::moments ? n + m + n * m : (what == RbmSums::variance ? 1 : 0));
}

inline void check(const ExactRbmArgs& args) {
  check(args.rbm);
  check_beta(args.beta);
  const std::int64_t n = smaller_layer(args.rbm);
  if (n > max_enumerated_units) {
    throw ArgumentError("weights: expected min(n_visible, n_hidden) <= " + std::to_string(max_enumerated_units) +
                        " for an enumeration, got 2^" + std::to_string(n) + " states");
  }
  const std::int64_t all = std::int64_t{1} << exact_rbm_range_bits(n, larger_layer(args.rbm));
  if (args.first_range < 0 || args.n_ranges < 0 || args.first_range > all - args.n_ranges) {
    throw ArgumentError("ranges: expected a part of 0 to " + std::to_string(all) + ", got " +
                        std::to_string(args.n_ranges) + " from " + std::to_string(args.first_range));
  }
}

}  // namespace vfe::kernels
