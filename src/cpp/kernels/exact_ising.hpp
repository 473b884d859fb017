// Exact ln Z and moments of an Ising model, as products of three matrices, a range of states at a time.
//
//   E(s) = -1/2 s'Js - h's,   s in {-1, +1}^n,   Z = sum_s e^(-beta E)
//
// Cut the spins in three groups with states a, b, c. Each term of E has spins of two groups at most:
//
//   Z = sum_abc X_ab Y_bc V_ca,   X = e^(-beta (E_a + E_ab)),   Y = e^(-beta (E_b + E_bc)),   V = e^(-beta (E_c +
//   E_ca))
//
// and the weights of the states of two groups, which pair correlations follow from, are
//
//   p(a, b) = X (Y V)',   p(b, c) = Y (V X)',   p(c, a) = V (X Y)'
//
// (products of entries outside the brackets). The variance: sum w (E - <E>)^2 with E = E_X + E_Y + E_V.
//
// A range is some states of the first group with all of the others. Its sums depend on the model and the range alone.
//
// Cost: 2 flops a state for ln Z, 6 for the moments, and for the variance 7 on the CPU, 14 on the device. Memory: on
// the CPU 8 bytes for each entry of Y, for moments again as much a thread; on the device 2^7 + 2^(n/3 - 7) numbers a
// state of a group: a factor is kept as two, by the low seven bits of a state and by the others, and multiplied on the
// way to the matrix unit. Here NumPy's BLAS is faster than the kernel, and free_energy/triangle.py asks it instead.
//
// Precision: float64. All terms are positive: a sum of K has a relative error of at most K eps, some sqrt(K) eps in
// practice, the same of both twins: |error of ln Z| <= 1e-12 max(1, |ln Z|), and of <s>, <s s'> <= 1e-12. The factors
// are in range if beta (sum |J| + sum |h|) <= 300, which is asked for. The device adds with fused operations (its
// matrix unit's), along b or c upwards, then the rows and columns of a tile, then tiles: always in the same order, but
// in another one than here.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

// What a range adds up to: numbers that are multiples of 2^sums[0] (here: 1), sums[1] = sum w, and then
//   moments: sum w s_i (n,), sum w s_i s_j (n, n);
//   variance: sum w (E - energy)^2.
enum class IsingSums { log_z, moments, variance };

struct ExactIsingArgs {
  std::int64_t n_spins;
  const double* couplings;  // (n, n), symmetric with zero diagonal
  const double* fields;     // (n,)
  double beta;
  IsingSums what;
  double energy;              // <E>, for the variance
  std::int64_t range_states;  // states of the first group in a range
  std::int64_t first_range, n_ranges;
  double* sums;  // (n_ranges, exact_ising_sums(n, what)): out
  int num_threads;
};

constexpr std::int64_t max_enumerated_spins = 51;
constexpr double max_ising_exponent = 300.0;

inline std::int64_t exact_ising_sums(std::int64_t n, IsingSums what) {
  return 2 + (what == IsingSums::moments ? n + n * n : (what == IsingSums::variance ? 1 : 0));
}

inline void check(const ExactIsingArgs& args) {
  check_beta(args.beta);
  const std::int64_t n = args.n_spins;
  if (n < 1 || n > max_enumerated_spins) {
    throw ArgumentError("couplings: expected 1 <= n_spins <= " + std::to_string(max_enumerated_spins) +
                        " for an enumeration, got " + std::to_string(n));
  }
  double twice = 0;
  for (std::int64_t k = 0; k < n * n; ++k) twice += args.couplings[k] < 0 ? -args.couplings[k] : args.couplings[k];
  for (std::int64_t i = 0; i < n; ++i) twice += 2 * (args.fields[i] < 0 ? -args.fields[i] : args.fields[i]);
  if (!(args.beta * twice / 2 <= max_ising_exponent)) {
    char got[32];
    std::snprintf(got, sizeof got, "%g", args.beta * twice / 2);
    throw ArgumentError(std::string("couplings: expected beta (sum |J| + sum |h|) <= 300, got ") + got);
  }
  const std::int64_t states = std::int64_t{1} << (n + 2) / 3;
  if (args.range_states < 1 || states % args.range_states != 0) {
    throw ArgumentError("range_states: expected a divisor of " + std::to_string(states) + ", got " +
                        std::to_string(args.range_states));
  }
  const std::int64_t all = states / args.range_states;
  if (args.first_range < 0 || args.n_ranges < 0 || args.first_range > all - args.n_ranges) {
    throw ArgumentError("ranges: expected a part of 0 to " + std::to_string(all) + ", got " +
                        std::to_string(args.n_ranges) + " from " + std::to_string(args.first_range));
  }
}

}  // namespace vfe::kernels
