// The functions of numerics/elementary.hpp over an array: what the kernels use, made available to
// Python and to the table of measured errors in tests/test_numerics.py.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

enum class Function { exp, expm1, exp_excess, log, log1p_unit, sigmoid, softplus, coth_excess, coth_excess_slope };

struct ElementwiseArgs {
  Real real;
  Function function;
  std::int64_t size;
  const void* x;  // (size,)
  void* y;        // (size,): out
  int num_threads;
};

inline void check(const ElementwiseArgs&) {}

}  // namespace vfe::kernels
