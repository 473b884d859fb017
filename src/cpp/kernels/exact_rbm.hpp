// Exact ln Z and first moments of an RBM, by enumeration of its smaller layer.
//
//   Z = sum_s e^(beta c.s) prod_j (1 + e^(beta x_j(s))),   x_j(s) = d_j + sum_i s_i W_ij
//
// where s runs over the 2^n states of the smaller layer (biases c) and j over the units of the other
// (biases d). With w(s) the summand, sigma_j = sigmoid(beta x_j):
//
//   <s_i> = sum_s w s_i / Z,  <t_j> = sum_s w sigma_j / Z,  <s_i t_j> = sum_s w s_i sigma_j / Z,
//   <E> = -c.<s> - d.<t> - sum_ij W_ij <s_i t_j>
//
// Cost: 2^n m states times units. ln Z: an addition and a multiplication each (rbm_product.hpp), for
// models of n >= 6 whose fields stay within some hundreds; an exponential and a multiplication each
// otherwise. The moments: an exponential, a division, two multiplications and two additions each.
// Memory: O(n m) a thread and range, whatever n.
//
// Precision: float64 throughout, for float32 models too. A field is a sum of at most n + 1 numbers; the
// sums over states run in three levels (low bits, high bits, ranges). All terms of Z and of <s>, <t>,
// <s t> are positive, nothing cancels: the tests hold |error of ln Z| <= 1e-12 max(1, |ln Z|) and a
// relative error of each of these moments <= 1e-12, for |W| <= 60. (When Z is 1 + z with a tiny z, ln Z
// has z's absolute error, not its relative one.) <E> is a difference of moments: its error is relative to
// the sum of the magnitudes of its terms.
//
// Order: the states are cut in ranges that depend on (n, m) alone and merged in order, so num_threads
// does not matter.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

struct ExactRbmArgs {
  RbmView rbm;
  double beta;
  double* log_z;           // out
  bool* product_form;      // out: whether ln Z was found in product form
  double* visible;         // (n_visible,): out; the four moments are all wanted or all null
  double* hidden;          // (n_hidden,): out
  double* visible_hidden;  // (n_visible, n_hidden): out
  double* energy;          // out
  int num_threads;
};

constexpr std::int64_t max_enumerated_units = 62;

inline void check(const ExactRbmArgs& args) {
  check(args.rbm);
  check_beta(args.beta);
  const std::int64_t n = args.rbm.n_visible < args.rbm.n_hidden ? args.rbm.n_visible : args.rbm.n_hidden;
  if (n > max_enumerated_units) {
    throw ArgumentError("weights: expected min(n_visible, n_hidden) <= " + std::to_string(max_enumerated_units) +
                        " for an enumeration, got 2^" + std::to_string(n) + " states");
  }
}

}  // namespace vfe::kernels
