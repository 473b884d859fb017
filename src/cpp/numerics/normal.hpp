// Standard normal numbers from random words, two at a time (G. Box, M. Muller, Ann. Math. Stat. 29 (1958) 610):
//
//   z = sqrt(-2 ln u) (cos t, sin t),   u uniform in (0, 1],  t uniform on the circle
//
// t is pi/2 times f in [-1/2, 1/2], and a quarter of the circle picked by two bits: small f keep their relative
// precision, so numbers near 0 are as fine as T. u keeps its own near 0, where the tail is: it ends
// where u does, at sqrt(2 ln 2^32) = 6.66 for float, sqrt(2 ln 2^63) = 9.34 for double. Both are midpoints of equal
// cells (31 and 30 bits; 62 of double), rounded to T; given those, z has the error in docs/numerics.md.
#pragma once

#include "elementary.hpp"
#include "philox.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

constexpr double normal_log_density_constant = -0.9189385332046727;  // -ln(2 pi) / 2

template <class T>
struct NormalPair {
  T first, second;
};

// What is left of sin(pi f / 2) / f and cos(pi f / 2) after their leading terms; z = f^2 <= 1/4.
template <class T>
struct CircleRemainder;

template <>
struct CircleRemainder<float> {
  VFE_HD static float sin(float z) {
    constexpr float c[] = {-0.645964097f, 0.0796926123f, -0.00468147497f, 0.000158651513f};
    return polynomial(c, z);
  }
  VFE_HD static float cos(float z) {
    constexpr float c[] = {-1.23370055f, 0.25366941f, -0.0208615283f, 0.000906739898f};
    return polynomial(c, z);
  }
};

template <>
struct CircleRemainder<double> {
  VFE_HD static double sin(double z) {
    constexpr double c[] = {-0.64596409750624617,   0.079692626246144239,   -0.0046817541342542077,
                            0.00016044116661409424, -3.5987029509735105e-6, 5.6422253691635283e-8};
    return polynomial(c, z);
  }
  VFE_HD static double cos(double z) {
    constexpr double c[] = {-1.2337005501361698,    0.25366950790104782,    -0.020863480763340773,
                            0.00091926027454684462, -2.5202039028029176e-5, 4.7106784055052271e-7,
                            -6.3293963449674235e-9};
    return polynomial(c, z);
  }
};

// Of u = 2^-31 `above`.
template <class T>
VFE_HD T box_muller_radius(T above) {
  return square_root(T(-2) * log_scaled(above, 31));
}

// Of f = 2^-f_bits `across`; `swap` and `negate` (0 or not) pick the quarter.
template <class T>
VFE_HD NormalPair<T> box_muller_turn(T radius, T across, int f_bits, std::uint32_t swap, std::uint32_t negate) {
  const T f = scale_down(across, f_bits), z = f * f;
  const T sine = f * (T(1.5707963267948966) + z * CircleRemainder<T>::sin(z));
  const T cosine = T(1) + z * CircleRemainder<T>::cos(z);
  const T turned = negate != 0 ? -radius : radius;
  return {turned * (swap != 0 ? sine : cosine), turned * (swap != 0 ? cosine : sine)};
}

// Radius and turn, of words 0 and 1 (double: 0 to 3), for loops of their own: one after the other they are a chain of
// operations too long for the next numbers to begin meanwhile.
VFE_HD float normal_radius(std::uint32_t w0) {
  return box_muller_radius(static_cast<float>(static_cast<std::int32_t>(w0 >> 1)) + 0.5f);
}
VFE_HD NormalPair<float> normal_turn(float radius, std::uint32_t w1) {
  const float across = static_cast<float>(static_cast<std::int32_t>(w1) >> 2) + 0.5f;
  return box_muller_turn(radius, across, 30, w1 & 1, w1 & 2);
}
VFE_HD double normal_radius(std::uint32_t w0, std::uint32_t w1) {
  const auto wide = [](std::uint32_t word) { return static_cast<double>(static_cast<std::int32_t>(word)); };
  return box_muller_radius(wide(w0 >> 1) + (wide(w1 >> 1) + 0.5) * 0x1p-31);
}
VFE_HD NormalPair<double> normal_turn(double radius, std::uint32_t w2, std::uint32_t w3) {
  const auto wide = [](std::uint32_t word) { return static_cast<double>(static_cast<std::int32_t>(word)); };
  const double across = wide(w2) + (wide(w3 >> 2) + 0.5) * 0x1p-30;
  return box_muller_turn(radius, across, 32, w3 & 1, w3 & 2);
}

VFE_HD NormalPair<float> normal_pair(std::uint32_t w0, std::uint32_t w1) { return normal_turn(normal_radius(w0), w1); }
VFE_HD NormalPair<double> normal_pair(std::uint32_t w0, std::uint32_t w1, std::uint32_t w2, std::uint32_t w3) {
  return normal_turn(normal_radius(w0, w1), w2, w3);
}

// A block's words make four floats, or two doubles.
template <class T>
constexpr std::uint32_t block_normals = 16 / sizeof(T);

}  // namespace vfe::numerics::inline VFE_LEVEL
