// A restricted Boltzmann machine as the kernels see it, and the checks every kernel makes of it.
//
//   E(v, h) = -a.v - b.h - v' W h,   v in {0,1}^n_visible,  h in {0,1}^n_hidden,   p ~ exp(-beta E)
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <type_traits>

#include "../runtime/errors.hpp"

namespace vfe::kernels {

enum class Real { float32, float64 };

// Borrowed memory of the caller's dtype; strides count elements and one of them is 1, so the
// transposed machine is a view.
struct RbmView {
  Real real;
  const void* weights;       // (n_visible, n_hidden)
  const void* visible_bias;  // (n_visible,)
  const void* hidden_bias;   // (n_hidden,)
  std::int64_t n_visible, n_hidden;
  std::int64_t visible_stride, hidden_stride;  // steps of `weights` along each axis

  // The same machine with its layers exchanged.
  RbmView transposed() const {
    return {real, weights, hidden_bias, visible_bias, n_hidden, n_visible, hidden_stride, visible_stride};
  }
};

// Parameters are below 2^100 (float32) or 2^900 (float64) and beta is below 2^100, so that no field, no
// energy and no product of the two overflows in float64, for up to 2^23 weights.
constexpr int max_exponent(Real real) { return real == Real::float32 ? 100 : 900; }
constexpr double max_beta = 0x1p100;

// True if all magnitudes are below the limit; infinities and NaN are not. In integers, so that it
// vectorises: an exponent beyond the limit carries into the sign bit.
template <class T>
bool all_within_limit(const T* values, std::int64_t count) {
  constexpr bool single = sizeof(T) == 4;
  using Bits = std::conditional_t<single, std::uint32_t, std::uint64_t>;
  constexpr Bits sign = Bits{1} << (8 * sizeof(T) - 1);
  constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  constexpr Bits limit = std::bit_cast<Bits>(static_cast<T>(single ? 0x1p100 : 0x1p900));
  Bits carried = 0;
  for (std::int64_t k = 0; k < count; ++k) carried |= (std::bit_cast<Bits>(values[k]) & exponent) + (sign - limit);
  return (carried & sign) == 0;
}

// Rows of adjacent values.
template <class T>
void check_values(const T* values, std::int64_t rows, std::int64_t columns, std::int64_t stride, const char* name) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* row = values + i * stride;
    if (all_within_limit(row, columns)) continue;
    std::int64_t j = 0;
    while (all_within_limit(row + j, 1)) ++j;
    char got[32];
    std::snprintf(got, sizeof got, "%g", static_cast<double>(row[j]));
    throw ArgumentError(std::string(name) + ": expected finite numbers below 2^" +
                        std::to_string(max_exponent(sizeof(T) == 4 ? Real::float32 : Real::float64)) + ", got " + got);
  }
}

inline void check_biases(const RbmView& rbm) {
  const auto check_both = [&]<class T>(T) {
    check_values(static_cast<const T*>(rbm.visible_bias), 1, rbm.n_visible, 0, "visible_bias");
    check_values(static_cast<const T*>(rbm.hidden_bias), 1, rbm.n_hidden, 0, "hidden_bias");
  };
  rbm.real == Real::float32 ? check_both(0.0f) : check_both(0.0);
}

inline void check(const RbmView& rbm) {
  if (rbm.n_visible < 1 || rbm.n_hidden < 1) {
    throw ArgumentError("weights: expected (n_visible, n_hidden) with n_visible >= 1 and n_hidden >= 1, got (" +
                        std::to_string(rbm.n_visible) + ", " + std::to_string(rbm.n_hidden) + ")");
  }
  const auto check_weights = [&]<class T>(T) {
    const bool by_row = rbm.hidden_stride == 1;
    check_values(static_cast<const T*>(rbm.weights), by_row ? rbm.n_visible : rbm.n_hidden,
                 by_row ? rbm.n_hidden : rbm.n_visible, by_row ? rbm.visible_stride : rbm.hidden_stride, "weights");
  };
  rbm.real == Real::float32 ? check_weights(0.0f) : check_weights(0.0);
  check_biases(rbm);
}

inline void check_beta(double beta) {
  if (!(beta >= 0 && beta < max_beta)) {
    char got[32];
    std::snprintf(got, sizeof got, "%g", beta);
    throw ArgumentError(std::string("beta: expected 0 <= beta < 2^100, got ") + got);
  }
}

}  // namespace vfe::kernels
