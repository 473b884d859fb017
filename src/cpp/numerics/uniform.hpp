// Uniform numbers from random words: the midpoints of equal cells, so 0 and 1 never occur and
// u and 1 - u have the same law.
#pragma once

#include "elementary.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// 23 bits: multiples of 2^-24, from 2^-24 to 1 - 2^-24.
VFE_HD float uniform_float(std::uint32_t word) { return (integer<float>(word >> 9) + 0.5f) * 0x1p-23f; }

// 52 bits from two words: multiples of 2^-53, from 2^-53 to 1 - 2^-53.
VFE_HD double uniform_double(std::uint32_t low, std::uint32_t high) {
  const std::uint64_t bits = ((std::uint64_t{high} << 32) | low) >> 12;
  return (integer<double>(bits) + 0.5) * 0x1p-52;
}

}  // namespace vfe::numerics::inline VFE_LEVEL
