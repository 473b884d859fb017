// Annealed importance sampling: chains moved along a path from independent units to an RBM, and their weights.
//
//   ln f_s(v) = a_0.v + s c.v + sum_j softplus(s x_j),  x_j = b_j + sum_i v_i W_ij;  c: visible_bias of `rbm`
//   for k = 0, 1, ..., n_increments - 1:  increment_k = ln f_{k+1}(v) - ln f_k(v), added to the chain's log weight;
//     v is moved by a Gibbs step at s_{k+1}, except after the last if `stay`.
//
// The step is that of gibbs.hpp, bit for bit, at beta = s_{k+1} with visible biases c + a_0 / s_{k+1} rounded to
// float32, number first_step + k: its precision and its random numbers. The fields x_j of the increment and of the step
// are the same sums. float32 parameters only.
//
// Precision: with e = e^(-s |x_j|) at the lower s of the two and delta their distance,
//   softplus difference = delta max(x_j, 0) + ln(1 + e / (1 + e) expm1(-delta |x_j|)),
// each factor with relative errors of float32, so that nothing cancels: an increment is off by at most
//   |delta| (2^-21 sum_j |x_j| + sum_j |error of x_j|) + 2^-50 (n_hidden + |delta| sum_i |c_i|),
// where x_j = float32(sum) float32(unit_j) + b_j is off by at most n_visible 2^-31 T_j + 2^-22 (T_j + |b_j|) (T_j as in
// gibbs.hpp). Products of 512 factors and all sums are float64. The order is fixed: neither num_threads nor the cut of
// chains or of the schedule into calls matters.
#pragma once

#include "../runtime/cache.hpp"
#include "gibbs.hpp"

namespace vfe::kernels {

struct AnnealArgs {
  RbmView rbm;          // visible_bias: c
  const double* base;   // (n_visible,): a_0
  const double* betas;  // (n_increments + 1,): the s
  std::int64_t n_increments;
  bool stay;
  std::uint64_t seed;
  std::int64_t first_chain, first_step;
  std::int64_t n_chains;
  const std::uint64_t* start;  // (n_chains, words of n_visible)
  std::uint64_t* visible;      // (n_chains, words of n_visible): out
  double* log_weights;         // (n_chains,): in, and out
  double* increments;          // (n_increments, n_chains): out
  int num_threads;
  runtime::Cache* prepared;  // of the same parameters, which it vouches for; null if they are used once
};

inline void check(const AnnealArgs& args) {
  if (args.rbm.real != Real::float32) throw ArgumentError("weights: expected float32, got float64");
  if (args.n_increments < 1) throw ArgumentError("betas: expected at least two");
  check_sweep({args.rbm, args.betas, 1, nullptr, 0, args.seed, args.first_chain, args.first_step, args.n_chains,
               args.n_increments, args.num_threads, args.prepared});
  for (std::int64_t k = 0; k <= args.n_increments; ++k) {
    check_beta(args.betas[k]);
    const bool moves = k > 0 && (k < args.n_increments || !args.stay);
    if (moves && args.betas[k] < 0x1p-100) {
      throw ArgumentError("betas: expected >= 2^-100 where chains are moved, got a smaller one");
    }
  }
  check_values(args.base, 1, args.rbm.n_visible, 0, "base");
}

}  // namespace vfe::kernels
