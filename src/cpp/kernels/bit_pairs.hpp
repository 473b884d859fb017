// Sums over samples of binary units times real numbers: bit_layer.hpp with the samples as inputs, the units as states.
#pragma once

#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t block_units = 256;  // whose sums for one strip fill 16 kB

// Rows of bits to columns: bit i of to[k] is bit k of from[i].
VFE_HD void transpose_bits(std::uint64_t (&bits)[word_bits]) {
  std::uint64_t mask = 0x00000000FFFFFFFFu;
  for (std::int64_t width = 32; width > 0; width /= 2, mask ^= mask << width) {
    for (std::int64_t i = 0; i < word_bits; i = ((i | width) + 1) & ~width) {
      const std::uint64_t changed = ((bits[i] >> width) ^ bits[i | width]) & mask;
      bits[i] ^= changed << width;
      bits[i | width] ^= changed;
    }
  }
}

// The states in all samples of the units of one word, word first: by_unit is (words of the samples, n_units).
VFE_HD void transpose_word(const States& samples, std::int64_t word, std::int64_t n_units, std::uint64_t* by_unit) {
  const std::int64_t left = n_units - word * word_bits, width = left < word_bits ? left : word_bits;
  for (std::int64_t first = 0; first < samples.n; first += word_bits, by_unit += n_units) {
    std::uint64_t bits[word_bits];
    for (std::int64_t k = 0; k < word_bits; ++k) bits[k] = first + k < samples.n ? samples.word(first + k, word) : 0;
    transpose_bits(bits);
    for (std::int64_t k = 0; k < width; ++k) by_unit[word * word_bits + k] = bits[k];
  }
}

template <class T>
VFE_HD void copy_strip(const T* __restrict from, T* __restrict to, std::int64_t width) {
  constexpr std::int64_t full = strip_width<T>;
  if (width == full) {
    for (std::int64_t l = 0; l < full; ++l) to[l] = from[l];
  } else {
    for (std::int64_t l = 0; l < width; ++l) to[l] = from[l];
  }
}

// out_ij = (add ? out_ij : 0) + sum_n s_ni x_nj for at most block_units units and the outputs of one tile of `values`.
template <class T>
void add_pairs(const BitLayer<T>& values, std::int64_t tile, const States& units, bool add, T* fields, T* table, T* out,
               std::int64_t row_stride) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t first_strip = tile * (tile_width / full), left = values.n_strips - first_strip;
  const std::int64_t n_strips = left < tile_width / full ? left : tile_width / full;
  const auto each_strip = [&](const auto& body) {
    for (std::int64_t u = 0; u < units.n; ++u) {
      for (std::int64_t k = 0; k < n_strips; ++k) {
        body(out + u * row_stride + k * full, fields + (k * units.n + u) * full, values.width_of(first_strip + k));
      }
    }
  };
  if (add) {
    each_strip([](const T* sum, T* field, std::int64_t width) { copy_strip(sum, field, width); });
  } else {
    for (std::int64_t k = 0; k < n_strips * units.n * full; ++k) fields[k] = T(0);
  }
  const auto add_all = units.n >= states_worth_groups ? add_tables<4, T> : add_tables<2, T>;
  for (std::int64_t k = 0; k < n_strips; ++k) {
    add_all(values, first_strip + k, units, fields + k * units.n * full, table);
  }
  each_strip([](T* sum, const T* field, std::int64_t width) { copy_strip(field, sum, width); });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
