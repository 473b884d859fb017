// Energies of an Ising model by groups of spins: E = E_0 + E_1 + E_2 + E_01 + E_12 + E_20 for spins in three groups,
// those of each group by itself, with its fields, and those between two of them.
#pragma once

#include "config.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// Consecutive spins. A state of them is a number: spin first + i is +1 where bit i is set, else -1.
struct SpinGroup {
  std::int64_t first, count;
  VFE_HD std::int64_t n_states() const { return std::int64_t{1} << count; }
};

VFE_HD double spin_of(std::int64_t state, std::int64_t i) { return (state >> i & 1) != 0 ? 1.0 : -1.0; }

// The g-th of the three groups of n spins: as equal as can be, the first the largest.
VFE_HD SpinGroup spin_group(std::int64_t n, int g) {
  const std::int64_t first = (n + 2) / 3, second = (n + 1) / 3;
  if (g == 0) return {0, first};
  return g == 1 ? SpinGroup{first, second} : SpinGroup{first + second, n - first - second};
}

struct IsingModel {
  std::int64_t n;
  const double *couplings, *fields;  // (n, n), symmetric with zero diagonal, and (n,)

  VFE_HD double energy_within(const SpinGroup& group, std::int64_t state) const {
    double energy = 0;
    for (std::int64_t i = 0; i < group.count; ++i) {
      double field = fields[group.first + i];
      for (std::int64_t j = 0; j < i; ++j) {
        field += couplings[(group.first + i) * n + group.first + j] * spin_of(state, j);
      }
      energy -= field * spin_of(state, i);
    }
    return energy;
  }
  VFE_HD double energy_between(const SpinGroup& a, std::int64_t of_a, const SpinGroup& b, std::int64_t of_b) const {
    double energy = 0;
    for (std::int64_t i = 0; i < a.count; ++i) {
      double field = 0;
      for (std::int64_t j = 0; j < b.count; ++j) {
        field += couplings[(a.first + i) * n + b.first + j] * spin_of(of_b, j);
      }
      energy -= field * spin_of(of_a, i);
    }
    return energy;
  }
};

}  // namespace vfe::numerics::inline VFE_LEVEL
