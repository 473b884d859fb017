// Fixed-point weights: w is held as the integer nearest to w * scale. A unit's scale is the largest
// for which all weights, whatever their signs, fit 31 bits: sums of any subset are then
// exact, and do not depend on the order in which they are made.
#pragma once

#include "elementary.hpp"

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

// x = sum * factor + offset is beta times the field of a unit, whose sum of integer weights is worth `unit` each; or,
// where that may be beyond `most_field`, as much smaller as keeps it in range: there all decisions are the same.
constexpr double most_field = 0x1p100;
struct FieldScale {
  float factor, offset;
};
template <bool may_be_beyond>
VFE_HD FieldScale field_scale(double beta, double unit, double bias) {
  const double factor = beta * unit, offset = beta * bias;
  if constexpr (!may_be_beyond) return {static_cast<float>(factor), static_cast<float>(offset)};
  const double size = 0x1p30 * factor + magnitude(offset), shrink = size > most_field ? most_field / size : 1.0;
  return {static_cast<float>(factor * shrink), static_cast<float>(offset * shrink)};
}
// Whether no field is beyond it, given the largest 2^30 unit and |bias|.
VFE_HD bool fields_in_range(double beta, double largest_sum, double largest_bias) {
  return beta * (largest_sum + largest_bias) < most_field;
}

}  // namespace vfe::numerics::inline VFE_LEVEL
