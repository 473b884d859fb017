// Fixed-point weights: w is held as the integer nearest to w * scale. A unit's scale is the largest
// for which all weights, whatever their signs, fit 31 bits: sums of any subset are then
// exact, and do not depend on the order in which they are made.
#pragma once

#include "config.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// `total` = sum |weights| over `terms` numbers; each may round up by 1/2.
VFE_HD double fixed_point_scale(double total, std::int64_t terms) {
  constexpr double largest_scale = 0x1p1000;
  const double scale = (0x1p30 - 0.5 * static_cast<double>(terms)) / total;
  return total > 0.0 && scale < largest_scale ? scale : (total > 0.0 ? largest_scale : 1.0);
}

VFE_HD std::int32_t to_fixed_point(double value, double scale) {
  const double scaled = value * scale;
  return static_cast<std::int32_t>((scaled + 0x1.8p52) - 0x1.8p52);
}

}  // namespace vfe::numerics::inline VFE_LEVEL
