// The registry of random streams: each use of random numbers has a number of its own, so no two
// uses ever see the same words. (The starts of persistent chains are draws of gibbs_visible in the last
// step there is.) Numbers are never reused; add new ones at the end.
#pragma once

#include "config.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

enum class Stream : std::uint8_t {
  uniform = 0,            // random: vf.random.uniform
  gibbs_hidden = 1,       // gibbs: hidden given visible
  gibbs_visible = 2,      // gibbs: visible given hidden
  gibbs_hidden_tie = 3,   // gibbs: further bits of a draw in gibbs_hidden that tied
  gibbs_visible_tie = 4,  // gibbs: further bits of a draw in gibbs_visible that tied
  normal = 5,             // random: vf.random.normal
  gaussian_visible = 6,   // gaussian_gibbs: visible given hidden
  reparam_gaussian = 7,   // reparam: noise of each family
  reparam_laplace = 8,
  reparam_logistic = 9,
  reparam_log_normal = 10,
  reparam_concrete = 11,
  reparam_gumbel_softmax = 12,
  hamiltonian_momentum = 13,  // hamiltonian: momenta
  hamiltonian_test = 14,      // hamiltonian: whether a move is taken
  flat_histogram = 15,        // flat_histogram: which spin, and whether it is turned
};

}  // namespace vfe::numerics::inline VFE_LEVEL
