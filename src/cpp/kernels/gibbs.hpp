// Block Gibbs sampling of an RBM.
//
//   n_steps times:  h_j ~ Bernoulli(sigmoid(beta (b_j + sum_i v_i W_ij)))
//                   v_i ~ Bernoulli(sigmoid(beta (a_i + sum_j W_ij h_j))), clamped ones as they were
//
// Shapes: states are packed bits, unit u in bit u % 64 of word u / 64, chain first. beta is one number or one a
// chain; which visible units are clamped is said once or for each chain.
//
// Precision: sum_i v_i W_ij is an exact sum of fixed-point weights with scale
// 2^30 / T_j, T_j = sum_i |W_ij| (float64, in the order of Rounding in gibbs_sweep.hpp, that of the weights in
// memory: along a row 16 lanes, across rows blocks of 32; a twin must keep it): its error is at most n 2^-31 T_j
// (each weight rounds once; typically 0.3 sqrt(n) 2^-30 T_j), for float32 and float64 weights alike. It then
// becomes a float32, times the float32 of beta (1 / scale), plus the float32 of beta b_j: error of x
// <= 2^-22 beta (|sum_i v_i W_ij| + |b_j|); where beta times a field may be beyond 2^100, x is smaller, and beyond
// any doubt (field_scale in numerics/fixed_point.hpp). r = sigmoid(-|x|) has a relative
// error <= 4 ulp. Given r the decision is exact (numerics/bernoulli.hpp): 1 if a uniform number is below sigmoid(x).
// The CPU decides most draws by sums of 16 bits and a rough exponential, but only where they leave no doubt
// (coarse_layer.hpp); a twin may do as it likes, as long as the decision is that of the exact sum.
//
// Randomness: unit u of chain c (counted from first_chain) in step t (from first_step) takes 16 bits, those from
// bit 16 (c % 2) on, of word (u / 16) % 4 of philox4x32({16 (u / 64) + u % 16, c / 2, t, stream}); in a tie words
// 0 and 1 of philox4x32({u, c, t, tie stream}). Nothing else enters, so the result is the same bit for bit for any
// num_threads, any cut of the chains into calls, any instruction set; a twin on another device must form the same
// integer sums (their order is free), the same float32 product and sum, and call the same functions of numerics/
// without fused operations.
#pragma once

#include "../numerics/philox.hpp"
#include "../runtime/cache.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

// What there is to any run of block Gibbs sampling.
struct SweepArgs {
  RbmView rbm;
  const double* beta;  // (1,) or (n_chains,)
  std::int64_t n_betas;
  const std::uint64_t* clamped;  // (1 or n_chains, words of n_visible): bits of clamped units; null if there are none
  std::int64_t n_clamped;        // rows of it
  std::uint64_t seed;
  std::int64_t first_chain, first_step;
  std::int64_t n_chains, n_steps;
  int num_threads;
  runtime::Cache* prepared;  // of the same parameters, which it vouches for; null if they are used once
};

struct GibbsArgs : SweepArgs {
  const std::uint64_t* start;  // (n_chains, words of n_visible): visible states to begin with
  std::uint64_t* visible;      // (n_chains, words of n_visible): out
  std::uint64_t* hidden;       // (n_chains, words of n_hidden): out; what `visible` was drawn from
};

inline void check_steps(std::int64_t first_step, std::int64_t n_steps) {
  constexpr auto max_steps = static_cast<std::int64_t>(numerics::max_step);
  if (n_steps < 1 || n_steps > max_steps) {
    throw ArgumentError("n_steps: expected 1 <= n_steps < 2^56, got " + std::to_string(n_steps));
  }
  if (first_step < 0 || first_step > max_steps - n_steps) {
    throw ArgumentError("step_offset: expected 0 <= step_offset and step_offset + n_steps < 2^56, got " +
                        std::to_string(first_step) + " + " + std::to_string(n_steps));
  }
}

inline void check_sweep(const SweepArgs& args) {
  if (args.prepared == nullptr) check(args.rbm);
  for (std::int64_t k = 0; k < args.n_betas; ++k) check_beta(args.beta[k]);
  const auto check_rows = [&](std::int64_t rows, const char* name) {
    if (rows == 1 || rows == args.n_chains) return;
    throw ArgumentError(std::string(name) + ": expected one for all or n_chains = " + std::to_string(args.n_chains) +
                        ", got " + std::to_string(rows));
  };
  check_rows(args.n_betas, "beta");
  if (args.clamped != nullptr) check_rows(args.n_clamped, "clamped");
  check_steps(args.first_step, args.n_steps);
  constexpr auto max_chains = std::int64_t{1} << 32;
  if (args.first_chain < 0 || args.first_chain > max_chains - args.n_chains) {
    throw ArgumentError("chain_offset: expected 0 <= chain_offset and chain_offset + n_chains <= 2^32, got " +
                        std::to_string(args.first_chain) + " + " + std::to_string(args.n_chains));
  }
}

inline void check(const GibbsArgs& args) { check_sweep(args); }

}  // namespace vfe::kernels
