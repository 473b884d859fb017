// The difference of averages over data and over Gibbs chains that contrastive divergence follows uphill:
//
//   pairs_ij = <v_i h_j>_data - <v_i h_j>_chains,   the same of v_i and of h_j alone,
//
// with h at its mean given v, sigmoid(b_j + sum_i v_i W_ij), in both. The chains make n_steps of
//
//   v_i ~ Bernoulli(sigmoid(a_i + sum_j W_ij h_j)),   h_j ~ Bernoulli(sigmoid(b_j + sum_i v_i W_ij))
//
// from `start` (persistent chains), or start at the data with a draw of h (CD; then n_chains = n_data).
//
// Shapes: states are packed bits, chain or sample first, as in gibbs.hpp; n_data, n_chains >= 1.
//
// Precision: fields and decisions as in gibbs.hpp. Means are in the dtype of the model, relative error <= 4 ulp given
// the field. Averages are sums in that dtype of means over n_data or n_chains: absolute error <= ((n_data + n_chains) /
// 64 + 15) 2 eps of what the means are; of <h> alone 64 eps more. eps = 2^-24 or 2^-53.
//
// Order: samples, then chains, are one sequence; of CD two, and pairs go on with the second where the first has ended.
// Pairs take sixteen of a sequence at a time, s_n m_n with m_n = +-<h_n> / n: of each four (1 + 2) + (3 + 4), of the
// four fours the same, and that is added to the sum. <h> takes 64 m_n at a time, one after the other, and adds their
// sum; it begins a new 64 at every 256th of the sequence and at the first chain.
//
// Randomness: the draws are those of `gibbs` for chains 0, 1, ...: step t of n_steps takes v from step first_step + t
// of its stream, and h from step first_step + t + 1 (the first h of CD from first_step; its last is not drawn). So
// chains at fixed parameters are those of `gibbs`, seen half a step later. The same bits for any num_threads and
// instruction set; a twin must add up averages in the order above.
#pragma once

#include "gibbs.hpp"

namespace vfe::kernels {

struct ContrastArgs {
  RbmView rbm;
  std::uint64_t seed;
  std::int64_t first_step, n_steps;
  std::int64_t n_data, n_chains;
  const std::uint64_t* data;             // (n_data, words of n_visible)
  const std::uint64_t* start;            // (n_chains, words of n_hidden): hidden states to begin with; null for CD
  std::uint64_t* visible;                // (n_chains, words of n_visible): out
  std::uint64_t* hidden;                 // (n_chains, words of n_hidden): out, drawn given `visible`; null for CD
  void* pairs;                           // (n_visible, n_hidden): out
  void *data_visible, *data_hidden;      // (n_visible,) and (n_hidden,): averages over the data; out
  void *chains_visible, *chains_hidden;  // the same over the chains; out
  int num_threads;
  const runtime::Cache* prepared;  // of the same parameters, which it vouches for, or null; nothing is put there
};

inline void check(const ContrastArgs& args) {
  if (args.prepared == nullptr) check(args.rbm);
  if (args.n_data < 1) throw ArgumentError("data: expected n_samples >= 1, got 0");
  if (args.n_chains < 1) throw ArgumentError("start: expected n_chains >= 1, got 0");
  if (args.n_chains > std::int64_t{1} << 32) throw ArgumentError("start: expected n_chains <= 2^32");
  check_steps(args.first_step, args.n_steps);
}

}  // namespace vfe::kernels
