// One Bernoulli decision, P(1) = sigmoid(x), exact given the float r = sigmoid(-|x|).
//
// The minority outcome has probability r <= 1/2, held with full relative accuracy in both tails.
// It occurs when a uniform number is below r. The first 31 bits of that number settle it unless
// they equal those of r (once in 2^31 draws); then 32 further bits are compared with what is left
// of r, so probabilities down to 2^-63 are kept, not rounded to the grid of one random word.
#pragma once

#include "elementary.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

struct Threshold {
  std::int32_t bits;  // floor(r 2^31)
  float rest;         // r 2^31 - bits, in [0, 1)
};

VFE_HD Threshold minority_threshold(float x) {
  const float e = exp_negative(-magnitude(x));
  const float scaled = e / (1.0f + e) * 0x1p31f;
  const std::int32_t bits = static_cast<std::int32_t>(scaled);
  return {bits, scaled - static_cast<float>(bits)};
}

VFE_HD std::int32_t leading_bits(std::uint32_t word) { return static_cast<std::int32_t>(word >> 1); }

// The decision when leading_bits(word) == threshold.bits: is the minority outcome drawn?
VFE_HD bool minority_after_tie(Threshold threshold, std::uint32_t further) {
  return static_cast<double>(further) < static_cast<double>(threshold.rest) * 0x1p32;
}

}  // namespace vfe::numerics::inline VFE_LEVEL
