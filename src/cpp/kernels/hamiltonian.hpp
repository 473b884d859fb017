// Hamiltonian dynamics in the clamped free energy of an RBM with real visible units, as sampling from e^-U:
//
//   U(v) = beta sum_i (v_i - a_i)^2 / 2 sigma_i^2 - sum_j softplus(beta (b_j + sum_i v_i W_ij / sigma_i^2))
//   n_moves times:  p_i ~ Normal(0, m_i), then n_steps of the leapfrog
//                     p -= step/2 dU/dv,  v_i += step p_i / m_i,  p -= step/2 dU/dv
//                   taken with probability min(1, exp(H before - H after)),  H = U + sum_i p_i^2 / 2 m_i,
//                   if `tested`, else always
//
// (S. Duane et al., Phys. Lett. B 195 (1987) 216). A move of one step is one of Langevin's.
//
// Shapes: chain first. A sample is the state after `every` moves, and the energy U there. Parameters are float64.
//
// Precision: all in float64, eps = 2^-53. Fields are b_j plus the sum over v_i times 1 / (sigma_i sigma_i) in the order
// of real_layer.hpp. U of a state as it is returned is off by at most beta eps times
//   (133 + n_visible / 128) sum_ij |v_i W_ij| / sigma_i^2 + (16 + n_hidden / 8) sum_j (|x_j| + 1 / beta)
//   + (16 + n_visible / 8) sum_i (v_i - a_i)^2 / sigma_i^2,   x_j = b_j + sum_i v_i W_ij / sigma_i^2.
//
// Randomness: momentum i of chain c in move t is sqrt(m_i) times the normal number that gaussian_gibbs.hpp counts for
// visible unit i of chain c in step t, of stream hamiltonian_momentum; the test takes the first two words of
// philox4x32({0, c, t, hamiltonian_test}) as a uniform number. Chains and moves have numbers of their own, so the same
// bits for any num_threads, any cut of the moves into calls, any instruction set.
#pragma once

#include "gaussian_gibbs.hpp"

namespace vfe::kernels {

struct HamiltonianArgs {
  RbmView rbm;
  const double* sigma;  // (n_visible,)
  double beta;
  const double* mass;  // (n_visible,): > 0
  double step;         // > 0
  bool tested;
  const std::int64_t* n_steps;  // (n_moves,): of the leapfrog in each move, >= 1
  std::int64_t n_moves, every;  // n_moves is a multiple of `every`
  std::uint64_t seed;
  std::int64_t first_move;
  std::int64_t n_chains;
  const double* start;      // (n_chains, n_visible)
  double* samples;          // (n_chains, n_moves / every, n_visible): out
  double* energies;         // (n_chains, n_moves / every): U of them; out
  double* acceptance;       // (n_chains,): sum over the moves of the probability that it is taken; out
  std::int64_t* divergent;  // (n_chains,): moves that end with H beyond H before + 1000, or with no number; out
  int num_threads;
  runtime::Cache* prepared;  // of the same parameters, which it vouches for; null if they are used once
};

inline void check(const HamiltonianArgs& args) {
  if (args.rbm.real != Real::float64) throw ArgumentError("weights: expected float64, got float32");
  if (args.prepared == nullptr) {
    check(args.rbm);
    check_sigma(args.rbm, args.sigma);
  }
  check_beta(args.beta);
  const auto positive = [](double x) { return x > 0 && x <= std::numeric_limits<double>::max(); };
  if (!positive(args.step)) throw ArgumentError("step: expected a number > 0");
  for (std::int64_t i = 0; i < args.rbm.n_visible; ++i) {
    if (!positive(args.mass[i])) throw ArgumentError("mass: expected numbers > 0");
  }
  if (args.every < 1 || args.n_moves % args.every != 0) {
    throw ArgumentError("every: expected a divisor of n_moves, >= 1");
  }
  for (std::int64_t t = 0; t < args.n_moves; ++t) {
    if (args.n_steps[t] < 1) throw ArgumentError("n_steps: expected numbers >= 1");
  }
  if (args.n_chains > std::int64_t{1} << 32) throw ArgumentError("start: expected n_chains <= 2^32");
  check_steps(args.first_move, args.n_moves);
  check_values(args.start, args.n_chains, args.rbm.n_visible, args.rbm.n_visible, "start");
}

}  // namespace vfe::kernels
