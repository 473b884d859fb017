// The widest vectors of the instruction set that a file is compiled for.
#pragma once

#include "../numerics/config.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

#if defined(__AVX512F__)
constexpr std::int64_t vector_bytes = 64;
#elif defined(__AVX2__)
constexpr std::int64_t vector_bytes = 32;
#else
constexpr std::int64_t vector_bytes = 16;
#endif

template <class T>
struct VectorOf {
  using Type [[gnu::vector_size(vector_bytes)]] = T;
};
template <class T>
using Vector = typename VectorOf<T>::Type;

// As many numbers as a vector of float64 holds.
template <class T>
VFE_HD Vector<double> load(const T* from) {
  if constexpr (sizeof(T) == sizeof(double)) {
    Vector<double> values;
    __builtin_memcpy(&values, from, sizeof values);
    return values;
  } else {
    typedef T Narrow [[gnu::vector_size(vector_bytes / 2)]];
    Narrow values;
    __builtin_memcpy(&values, from, sizeof values);
    return __builtin_convertvector(values, Vector<double>);
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
