// Weighted sums of real numbers, x_sj = bias_j + sum_i v_si w_ij, as blocked matrix products whose order is fixed:
// 128 inputs one after the other, each product rounded before it is added; the sums of such blocks are added to the
// bias in turn. A sum has a lane of its own, so neither tiles nor vectors change it.
#pragma once

#include "bit_layer.hpp"
#include "vectors.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t ordered_inputs = 128;  // of one strip fill 8 kB

// Numbers that are multiplied by the weights: v_si at data[s * row_stride + i * input_stride].
template <class T>
struct Reals {
  const T* data;
  std::int64_t n, row_stride, input_stride;
};

// Sums that registers hold: rows by strips, for each width of vectors.
constexpr std::int64_t product_states = vector_bytes == 64 ? 8 : vector_bytes == 32 ? 6 : 2;
constexpr std::int64_t product_strips = vector_bytes == 64 ? 2 : 1;

// sums[k][r] += sum of n inputs for `rows` rows and `strips` strips, n_states rows apart.
template <std::int64_t rows, std::int64_t strips, class T>
VFE_HD void add_products(const T* values, const Reals<T>& of, const T* weights, std::int64_t strip_stride,
                         std::int64_t n, T* sums) {
  constexpr std::int64_t full = strip_width<T>, width = vector_bytes / static_cast<std::int64_t>(sizeof(T));
  constexpr std::int64_t per_strip = full / width, vectors = strips * per_strip;
  using V = Vector<T>;
  V sum[rows][vectors];
  VFE_UNROLL
  for (std::int64_t r = 0; r < rows; ++r) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < vectors; ++k) sum[r][k] = V{};
  }
  for (std::int64_t i = 0; i < n; ++i) {
    V w[vectors];
    VFE_UNROLL
    for (std::int64_t k = 0; k < vectors; ++k) {
      w[k] = *reinterpret_cast<const V*>(weights + k / per_strip * strip_stride + i * full + k % per_strip * width);
    }
    VFE_UNROLL
    for (std::int64_t r = 0; r < rows; ++r) {
      const T value = values[r * of.row_stride + i * of.input_stride];
      VFE_UNROLL
      for (std::int64_t k = 0; k < vectors; ++k) sum[r][k] += value * w[k];
    }
  }
  VFE_UNROLL
  for (std::int64_t r = 0; r < rows; ++r) {
    VFE_UNROLL
    for (std::int64_t k = 0; k < vectors; ++k) {
      *reinterpret_cast<V*>(sums + (k / per_strip * of.n + r) * full + k % per_strip * width) += sum[r][k];
    }
  }
}

// The same for all rows, as many at a time as registers hold, and then for what is left, at most `most` rows.
template <std::int64_t most, std::int64_t strips, class T>
VFE_HD void add_products_of_rows(const Reals<T>& of, std::int64_t first, std::int64_t done, const T* weights,
                                 std::int64_t strip_stride, std::int64_t n, T* sums) {
  for (; of.n - done >= most; done += most) {
    add_products<most, strips>(of.data + first * of.input_stride + done * of.row_stride, of, weights, strip_stride, n,
                               sums + done * strip_width<T>);
  }
  if constexpr (most > 1) {
    if (done < of.n) add_products_of_rows<most - 1, strips>(of, first, done, weights, strip_stride, n, sums);
  }
}

// fields[k][s][l] = the field of output tile * 64 + k * strip_width + l of row s, for the strips of the tile that there
// are: as TileFields does for bits.
template <class T>
void find_products(const BitLayer<T>& layer, std::int64_t tile, const Reals<T>& of, T* fields) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t first_strip = tile * (tile_width / full), left = layer.n_strips - first_strip;
  const std::int64_t n_strips = left < tile_width / full ? left : tile_width / full;
  const std::int64_t strip_stride = layer.block_rows(1, 0) - layer.block_rows(0, 0);
  for (std::int64_t k = 0; k < n_strips;) {
    const std::int64_t strips = n_strips - k < product_strips ? 1 : product_strips;
    T* sums = fields + k * of.n * full;
    for (std::int64_t strip = 0; strip < strips; ++strip) {
      const Row<T> bias = row_at<T>(layer.bias.data() + (first_strip + k + strip) * full, 0);
      for (std::int64_t s = 0; s < of.n; ++s) reinterpret_cast<Row<T>*>(sums)[strip * of.n + s] = bias;
    }
    for (std::int64_t i = 0; i < layer.n_in; i += ordered_inputs) {
      const std::int64_t n = layer.n_in - i < ordered_inputs ? layer.n_in - i : ordered_inputs;
      const T* weights = layer.block_rows(first_strip + k, 0) + i * full;
      if (strips == product_strips) {
        add_products_of_rows<product_states, product_strips>(of, i, 0, weights, strip_stride, n, sums);
      } else {
        add_products_of_rows<product_states, 1>(of, i, 0, weights, strip_stride, n, sums);
      }
    }
    k += strips;
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
