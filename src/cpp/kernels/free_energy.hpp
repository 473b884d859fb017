// The clamped free energy of visible states and its gradient in the hidden biases.
//
//   F_c(v) = -a.v - (1/beta) sum_j softplus(beta x_j),  x_j = b_j + sum_i v_i W_ij
//          = -a.v - sum_j max(x_j, 0) - (1/beta) ln prod_j (1 + e^(-beta |x_j|))
//   -dF_c/db_j = sigmoid(beta x_j) = p(h_j = 1 | v)
//
// Precision: x_j is summed in the model's dtype, four inputs at a time (bit_layer.hpp); error of x_j
// <= (n_visible / 4 + 4) eps (|b_j| + sum_i |W_ij|), eps = 2^-24 or 2^-53. F_c is off by at most the sum of
// these errors over j and 4 eps |F_c|. The softplus terms are
// accumulated in float64: each ln(1 + e^-|x|) enters as a factor of a product, so there is one
// logarithm for every 512 hidden units. The order is fixed: neither num_threads nor the batch matters.
// The CUDA twin adds everything in the same order, without fused operations: the same bits.
#pragma once

#include "../runtime/cache.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

struct FreeEnergyArgs {
  RbmView rbm;
  double beta;
  std::int64_t n_states;
  const std::uint64_t* visible;  // (n_states, words of n_visible): packed states
  void* free_energy;             // (n_states,) of the model's dtype: out; null if not wanted
  void* mean_hidden;             // (n_states, n_hidden) of the model's dtype: out; null if not wanted
  int num_threads;
  bool exchanged;            // whether rbm is the transposed view of the machine that `prepared` belongs to
  runtime::Cache* prepared;  // of the same parameters, which it vouches for; null if they are used once
};

inline void check(const FreeEnergyArgs& args) {
  if (args.prepared == nullptr) check(args.rbm);
  check_beta(args.beta);
  if (args.free_energy != nullptr && args.beta < 0x1p-100) {
    throw ArgumentError("beta: expected beta >= 2^-100 for a free energy, got a smaller one");
  }
}

}  // namespace vfe::kernels
