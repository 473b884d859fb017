// Walkers in the space of energies of an Ising model (F. Wang, D. Landau, Phys. Rev. Lett. 86 (2001) 2050), which turn
// one spin at a time:
//
//   E(s) = -1/2 s'Js - h's in units of levels, level(E) = floor(E + offset), brought into [0, n_levels)
//   a turn from level k to l is taken with probability min(1, exp(log_g_k - log_g_l)); then, taken or not, of the level
//   where the walker is: log_g += f, histogram += 1. If level l was never visited, it is taken, and log_g_l = log_g_k.
//
// f is increment_w of walker w, or decay_w / (number of the trial, from 1) if decay_w > 0 (R. Belardinelli, V. Pereyra,
// J. Chem. Phys. 127 (2007) 184105), the same for the trials of a sweep. With f = 0 and every level visited, the
// weights are fixed and the walkers sample the law of states proportional to exp(-log_g of their level).
//
// Shapes: walker first. A sweep is n_spins trials. A trip is a way from level <= low to level >= high and back.
//
// A call that is interrupted leaves the spins as they were, and anything in the rest: the walk is over.
//
// Precision: float64. Energies and fields are found anew in each call, and followed by additions: exact where J and h
// are whole numbers, else off by 2^-53 of the largest of them a turn.
//
// Randomness: trial k of sweep t of walker w takes words 2 (k % 2) and 2 (k % 2) + 1 of
// philox4x32({k / 2, w, t, flat_histogram}): the spin, word * n_spins >> 32, and a uniform number u =
// (word + 1/2) 2^-32: the turn is taken if ln u < log_g_k - log_g_l. The same bits for any num_threads, any cut of the
// sweeps into calls if J and h are whole numbers, and any instruction set.
#pragma once

#include <cmath>

#include "gibbs.hpp"

namespace vfe::kernels {

struct FlatHistogramArgs {
  std::int64_t n_spins, n_levels, n_walkers;
  const double* couplings;  // (n_spins, n_spins), symmetric with a diagonal of 0
  const double* fields;     // (n_spins,)
  double offset;
  const double *increment, *decay;  // (n_walkers,), >= 0
  std::int64_t low, high;           // levels, or n_levels, where no walker comes
  std::uint64_t seed;
  std::int64_t first_sweep, n_sweeps;
  std::int8_t* spins;        // (n_walkers, n_spins): in, and out
  double* log_g;             // (n_walkers, n_levels): in, and out
  std::uint64_t* histogram;  // (n_walkers, n_levels): added to
  std::uint8_t* visited;     // (n_walkers, n_levels): whether it ever was; in, and out
  std::uint8_t* way;         // (n_walkers,): 0 before a walker was low, then 1 on the way up and 2 down; in, and out
  std::int64_t* trips;       // (n_walkers,): added to
  int num_threads;
};

inline void check(const FlatHistogramArgs& args) {
  if (args.n_spins < 1) throw ArgumentError("couplings: expected (n_spins, n_spins) with n_spins >= 1");
  for (std::int64_t i = 0; i < args.n_spins; ++i) {
    if (args.couplings[i * args.n_spins + i] != 0) throw ArgumentError("couplings: expected a diagonal of 0");
  }
  if (args.n_levels < 1) throw ArgumentError("log_g: expected (n_walkers, n_levels) with n_levels >= 1");
  check_values(args.couplings, args.n_spins, args.n_spins, args.n_spins, "couplings");
  check_values(args.fields, 1, args.n_spins, 0, "fields");
  check_values(args.log_g, args.n_walkers, args.n_levels, args.n_levels, "log_g");
  if (!std::isfinite(args.offset)) throw ArgumentError("offset: expected a finite number");
  const auto is_level = [&](std::int64_t level) { return level >= 0 && level <= args.n_levels; };
  if (!is_level(args.low)) throw ArgumentError("low: expected 0 <= low <= n_levels");
  if (!is_level(args.high)) throw ArgumentError("high: expected 0 <= high <= n_levels");
  for (std::int64_t w = 0; w < args.n_walkers; ++w) {
    const auto is_size = [](double x) { return x >= 0 && x <= 1e300; };
    if (!is_size(args.increment[w])) throw ArgumentError("increment: expected numbers >= 0");
    if (!is_size(args.decay[w])) throw ArgumentError("decay: expected numbers >= 0");
  }
  for (std::int64_t k = 0; k < args.n_walkers * args.n_spins; ++k) {
    if (args.spins[k] != 1 && args.spins[k] != -1) throw ArgumentError("spins: expected -1 and 1, got others");
  }
  if (args.n_walkers > std::int64_t{1} << 32) throw ArgumentError("spins: expected n_walkers <= 2^32");
  check_steps(args.first_sweep, args.n_sweeps);
}

}  // namespace vfe::kernels
