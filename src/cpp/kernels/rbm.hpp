// A restricted Boltzmann machine as the kernels see it, and the checks every kernel makes of it.
//
//   E(v, h) = -a.v - b.h - v' W h,   v in {0,1}^n_visible,  h in {0,1}^n_hidden,   p ~ exp(-beta E)
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "../runtime/errors.hpp"

namespace vfe::kernels {

enum class Real { float32, float64 };

// Borrowed memory of the caller's dtype; strides count elements, so the transposed machine is a view.
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

template <class T>
void check_finite(const T* values, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                  std::int64_t column_stride, const char* name) {
  for (std::int64_t i = 0; i < rows; ++i) {
    T bad = 0;  // stays 0 unless a value is infinite or NaN
    for (std::int64_t j = 0; j < columns; ++j) bad += values[i * row_stride + j * column_stride] * T(0);
    if (bad == T(0)) continue;
    for (std::int64_t j = 0; j < columns; ++j) {
      const double value = static_cast<double>(values[i * row_stride + j * column_stride]);
      if (std::isfinite(value)) continue;
      const std::string where = rows > 1 ? std::to_string(i) + ", " + std::to_string(j) : std::to_string(j);
      throw ArgumentError(std::string(name) + ": expected finite numbers, got " + std::to_string(value) + " at [" +
                          where + "]");
    }
  }
}

inline void check(const RbmView& rbm) {
  if (rbm.n_visible < 1 || rbm.n_hidden < 1) {
    throw ArgumentError("weights: expected (n_visible, n_hidden) with n_visible >= 1 and n_hidden >= 1, got (" +
                        std::to_string(rbm.n_visible) + ", " + std::to_string(rbm.n_hidden) + ")");
  }
  const auto all_finite = [&]<class T>(T) {
    check_finite(static_cast<const T*>(rbm.weights), rbm.n_visible, rbm.n_hidden, rbm.visible_stride, rbm.hidden_stride,
                 "weights");
    check_finite(static_cast<const T*>(rbm.visible_bias), 1, rbm.n_visible, 0, 1, "visible_bias");
    check_finite(static_cast<const T*>(rbm.hidden_bias), 1, rbm.n_hidden, 0, 1, "hidden_bias");
  };
  rbm.real == Real::float32 ? all_finite(0.0f) : all_finite(0.0);
}

inline void check_beta(double beta) {
  if (!std::isfinite(beta) || beta < 0) {
    throw ArgumentError("beta: expected a finite number >= 0, got " + std::to_string(beta));
  }
}

}  // namespace vfe::kernels
