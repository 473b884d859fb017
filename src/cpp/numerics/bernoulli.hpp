// One Bernoulli decision: 1 if a uniform number u is below sigmoid(x), exact given the float r = sigmoid(-|x|).
//
// The less likely outcome has probability r <= 1/2, held with full relative accuracy in both tails: for x < 0 it is 1
// and occurs when u < r, for x >= 0 it is 0 and occurs when 1 - u < r, where 1 - u has the bits of u turned over.
// So a larger x turns a 1 into a 0 only where r is rounded (a relative 2^-22). The first 16 bits of u settle it unless
// they equal those of r (once in 2^16 draws); then 53 further bits are compared with what is left of r, so
// probabilities down to 2^-69 are kept, not rounded to the grid of one random word.
#pragma once

#include "elementary.hpp"
#include "philox.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// r 2^16
VFE_HD float minority_share(float x) {
  const float e = exp_negative(-magnitude(x));
  return e / (1.0f + e) * 0x1p16f;
}

// The bits of a word that chain c of the two that share it compares.
VFE_HD std::int32_t leading_bits(std::uint32_t word, std::uint32_t chain) {
  return static_cast<std::int32_t>((word >> (chain % 2 * 16)) & 0xFFFF);
}

// Those of u for x < 0, of 1 - u for x >= 0.
VFE_HD std::int32_t turned_over(std::int32_t leading, float x) { return leading ^ (x >= 0.0f ? 0xFFFF : 0); }

// The decision; further() gives the two words that come behind the leading bits.
template <class Further>
VFE_HD bool bernoulli(float x, std::int32_t leading, const Further& further) {
  const float share = minority_share(x);
  const auto bits = static_cast<std::int32_t>(share);
  const std::int32_t drawn = turned_over(leading, x);
  bool minority = drawn < bits;
  if (drawn == bits) {
    const Words4 words = further();
    const std::uint64_t turn = x >= 0.0f ? ~std::uint64_t{0} : 0;
    const std::uint64_t rest = ((std::uint64_t{words.word[0]} << 32 | words.word[1]) ^ turn) >> 11;
    minority = static_cast<double>(static_cast<std::int64_t>(rest)) <
               static_cast<double>(share - static_cast<float>(bits)) * 0x1p53;
  }
  return (x >= 0.0f) != minority;
}

}  // namespace vfe::numerics::inline VFE_LEVEL
