// A restricted Boltzmann machine as the kernels see it, and the checks every kernel makes of it.
//
//   E(v, h) = -a.v - b.h - v' W h,   v in {0,1}^n_visible,  h in {0,1}^n_hidden,   p ~ exp(-beta E)
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
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

// True if all exponents are below the one of infinities and NaNs. In integers, so that it vectorises.
template <class T>
bool all_finite(const T* values, std::int64_t count) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  constexpr Bits lowest = exponent & (~exponent + 1), top = exponent + lowest;
  Bits carried = 0;
  for (std::int64_t k = 0; k < count; ++k) carried |= (std::bit_cast<Bits>(values[k]) & exponent) + lowest;
  return (carried & top) == 0;
}

// Rows of adjacent values.
template <class T>
void check_finite(const T* values, std::int64_t rows, std::int64_t columns, std::int64_t stride, const char* name) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* row = values + i * stride;
    if (all_finite(row, columns)) continue;
    std::int64_t j = 0;
    while (std::isfinite(row[j])) ++j;
    throw ArgumentError(std::string(name) + ": expected finite numbers, got " + std::to_string(row[j]));
  }
}

inline void check(const RbmView& rbm) {
  if (rbm.n_visible < 1 || rbm.n_hidden < 1) {
    throw ArgumentError("weights: expected (n_visible, n_hidden) with n_visible >= 1 and n_hidden >= 1, got (" +
                        std::to_string(rbm.n_visible) + ", " + std::to_string(rbm.n_hidden) + ")");
  }
  const auto finite = [&]<class T>(T) {
    const bool by_row = rbm.hidden_stride == 1;
    check_finite(static_cast<const T*>(rbm.weights), by_row ? rbm.n_visible : rbm.n_hidden,
                 by_row ? rbm.n_hidden : rbm.n_visible, by_row ? rbm.visible_stride : rbm.hidden_stride, "weights");
    check_finite(static_cast<const T*>(rbm.visible_bias), 1, rbm.n_visible, 0, "visible_bias");
    check_finite(static_cast<const T*>(rbm.hidden_bias), 1, rbm.n_hidden, 0, "hidden_bias");
  };
  rbm.real == Real::float32 ? finite(0.0f) : finite(0.0);
}

inline void check_beta(double beta) {
  if (!std::isfinite(beta) || beta < 0) {
    throw ArgumentError("beta: expected a finite number >= 0, got " + std::to_string(beta));
  }
}

}  // namespace vfe::kernels
