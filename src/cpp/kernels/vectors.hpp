// The widest vectors of the instruction set that a file is compiled for, and rows of 64 bytes made of them.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../numerics/config.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
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
template <class T>
constexpr std::int64_t vector_width = vector_bytes / static_cast<std::int64_t>(sizeof(T));

// A bit for each number of the outcome of a comparison.
VFE_HD std::uint64_t bits_of(const Vector<std::int32_t>& outcome) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return static_cast<std::uint64_t>(_mm512_movepi32_mask(reinterpret_cast<__m512i>(outcome)));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(outcome)));
#elif defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(outcome)));
#else
  std::uint64_t bits = 0;
  for (std::int64_t l = 0; l < vector_width<std::int32_t>; ++l) bits |= (outcome[l] & std::uint64_t{1}) << l;
  return bits;
#endif
}
VFE_HD std::uint64_t bits_of(const Vector<std::int64_t>& outcome) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return static_cast<std::uint64_t>(_mm512_movepi64_mask(reinterpret_cast<__m512i>(outcome)));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_pd(reinterpret_cast<__m256d>(outcome)));
#elif defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_pd(reinterpret_cast<__m128d>(outcome)));
#else
  std::uint64_t bits = 0;
  for (std::int64_t l = 0; l < vector_width<std::int64_t>; ++l) bits |= (outcome[l] & std::uint64_t{1}) << l;
  return bits;
#endif
}

// a b + c, rounded once or twice as the instruction set has it: where no result depends on that.
VFE_HD Vector<float> multiply_add(const Vector<float>& a, const Vector<float>& b, const Vector<float>& c) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return reinterpret_cast<Vector<float>>(_mm512_fmadd_ps(a, b, c));
#elif defined(__AVX2__) && defined(__FMA__)
  return reinterpret_cast<Vector<float>>(_mm256_fmadd_ps(a, b, c));
#else
  return a * b + c;
#endif
}

// Number by number, of numbers that are no NaN. (Of a choice between vectors the compiler makes two instructions.)
VFE_HD Vector<float> larger(const Vector<float>& a, const Vector<float>& b) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_maskz_max_ps(0xFFFF, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// Rows to columns, by taking rows k and k + width / 2 in turns.
template <class T>
VFE_HD void transpose_square(Vector<T> (&rows)[vector_width<T>]) {
  constexpr std::int64_t width = vector_width<T>;
  const auto in_turns = [&]<std::size_t... l>(const Vector<T>& a, const Vector<T>& b, Vector<T>& low, Vector<T>& high,
                                              std::index_sequence<l...>) {
    low = __builtin_shufflevector(a, b, (l / 2 + l % 2 * width)...);
    high = __builtin_shufflevector(a, b, (width / 2 + l / 2 + l % 2 * width)...);
  };
  VFE_UNROLL
  for (std::int64_t done = 1; done < width; done *= 2) {
    Vector<T> next[width];
    VFE_UNROLL
    for (std::int64_t k = 0; k < width / 2; ++k) {
      in_turns(rows[k], rows[k + width / 2], next[2 * k], next[2 * k + 1],
               std::make_index_sequence<static_cast<std::size_t>(width)>{});
    }
    VFE_UNROLL
    for (std::int64_t k = 0; k < width; ++k) rows[k] = next[k];
  }
}

// Numbers that fill 64 bytes. (The compiler has vector types of any size, but it keeps those that are wider than the
// instruction set's in memory, and copies them in pieces.)
constexpr std::int64_t row_bytes = 64;

template <class T>
struct Row {
  static constexpr std::int64_t parts = row_bytes / vector_bytes;
  Vector<T> part[parts];

  VFE_HD Row& operator+=(const Row& other) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) part[k] += other.part[k];
    return *this;
  }
  VFE_HD Row& operator-=(const Row& other) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) part[k] -= other.part[k];
    return *this;
  }
  VFE_HD Row& operator*=(const Row& other) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) part[k] *= other.part[k];
    return *this;
  }
  VFE_HD Row& operator*=(T factor) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) part[k] *= factor;
    return *this;
  }
  VFE_HD Row& operator/=(const Row& other) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) part[k] /= other.part[k];
    return *this;
  }
  VFE_HD friend Row operator+(Row a, const Row& b) { return a += b; }
  VFE_HD friend Row operator-(Row a, const Row& b) { return a -= b; }
  VFE_HD friend Row operator*(Row a, const Row& b) { return a *= b; }
  VFE_HD friend Row operator*(T factor, Row a) { return a *= factor; }
  VFE_HD friend Row operator/(Row a, const Row& b) { return a /= b; }

  VFE_HD friend Row operator<<(Row a, int bits) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] <<= bits;
    return a;
  }
  VFE_HD friend Row operator>>(Row a, int bits) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] >>= bits;
    return a;
  }
  VFE_HD friend Row operator<<(Row a, const Row& bits) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] <<= bits.part[k];
    return a;
  }
  VFE_HD friend Row operator>>(Row a, const Row& bits) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] >>= bits.part[k];
    return a;
  }
  VFE_HD friend Row operator|(Row a, const Row& b) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] |= b.part[k];
    return a;
  }
  VFE_HD friend Row operator&(Row a, T mask) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) a.part[k] &= mask;
    return a;
  }

  VFE_HD T operator[](std::int64_t l) const { return part[l / vector_width<T>][l % vector_width<T>]; }
  VFE_HD void set(std::int64_t l, T value) { part[l / vector_width<T>][l % vector_width<T>] = value; }

  // The same bits. (std::bit_cast of a row goes through memory, in pieces.)
  template <class U>
  VFE_HD Row<U> as() const {
    Row<U> row;
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) row.part[k] = reinterpret_cast<Vector<U>>(part[k]);
    return row;
  }

  VFE_HD static Row of(T value) {
    Row row;
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) row.part[k] = Vector<T>{} + value;
    return row;
  }
  // Number by number: yes where x > y, else no.
  VFE_HD friend Row where_greater(const Row& x, const Row& y, const Row& yes, const Row& no) {
    Row row;
    VFE_UNROLL
    for (std::int64_t k = 0; k < parts; ++k) row.part[k] = x.part[k] > y.part[k] ? yes.part[k] : no.part[k];
    return row;
  }
};

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
