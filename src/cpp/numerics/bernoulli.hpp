// One Bernoulli decision, P(1) = sigmoid(x), exact given the float r = sigmoid(-|x|).
//
// The minority outcome has probability r <= 1/2, held with full relative accuracy in both tails.
// It occurs when a uniform number is below r. The first 16 bits of that number settle it unless
// they equal those of r (once in 2^16 draws); then 53 further bits are compared with what is left
// of r, so probabilities down to 2^-69 are kept, not rounded to the grid of one random word.
#pragma once

#include "elementary.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

struct Threshold {
  std::int32_t bits;  // floor(r 2^16)
  float rest;         // r 2^16 - bits, in [0, 1)
};

VFE_HD Threshold minority_threshold(float x) {
  const float e = exp_negative(-magnitude(x));
  const float scaled = e / (1.0f + e) * 0x1p16f;
  const std::int32_t bits = static_cast<std::int32_t>(scaled);
  return {bits, scaled - static_cast<float>(bits)};
}

// The bits of a word that chain c of the two that share it compares.
VFE_HD std::int32_t leading_bits(std::uint32_t word, std::uint32_t chain) {
  return static_cast<std::int32_t>((word >> (chain % 2 * 16)) & 0xFFFF);
}

// The decision when the leading bits equal threshold.bits: is the minority outcome drawn?
VFE_HD bool minority_after_tie(Threshold threshold, std::uint32_t high, std::uint32_t low) {
  const std::uint64_t further = (std::uint64_t{high} << 32 | low) >> 11;
  return static_cast<double>(static_cast<std::int64_t>(further)) < static_cast<double>(threshold.rest) * 0x1p53;
}

}  // namespace vfe::numerics::inline VFE_LEVEL
