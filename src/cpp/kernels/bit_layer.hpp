// Weighted sums of binary states: the technique that `gibbs` and `free_energy` share on a CPU.
//
// A state is a row of bits, so its field x_j = bias_j + sum_i s_i w_ij is a sum of rows of w. Four
// inputs have 16 possible sums: they are tabulated for a tile of 64 outputs and a whole block of
// states adds one table row per four inputs, from cache. A block of few states adds the rows
// themselves, in the same order: the two ways agree bit for bit, in floating point too.
#pragma once

#include <cstdint>

#include "../runtime/scratch.hpp"
#include "rbm.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t word_bits = 64;                // states are packed, unit u in bit u % 64 of word u / 64
constexpr std::int64_t tile_width = word_bits;        // outputs done together
constexpr std::int64_t block_inputs = word_bits / 2;  // inputs done together
constexpr std::int64_t group_inputs = 4, group_sums = 16;
constexpr std::int64_t block_groups = block_inputs / group_inputs;
constexpr std::int64_t table_size = block_groups * group_sums * tile_width;
constexpr std::int64_t states_worth_a_table = 8;  // building one costs about as much as adding rows for 8 states

VFE_HD std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
VFE_HD std::int64_t words_for(std::int64_t n_units) { return ceil_div(n_units, word_bits); }

// The weights into one layer, cut into tiles and padded with zeros.
template <class T>
struct BitLayer {
  std::int64_t n_in, n_out, n_blocks, n_tiles;
  runtime::Buffer<T> rows;  // (n_tiles, n_blocks * block_inputs, tile_width)
  runtime::Buffer<T> bias;  // (n_tiles, tile_width)

  VFE_HD BitLayer(std::int64_t inputs, std::int64_t outputs)
      : n_in(inputs),
        n_out(outputs),
        n_blocks(2 * words_for(inputs)),
        n_tiles(ceil_div(outputs, tile_width)),
        rows(n_tiles * n_blocks * block_inputs * tile_width),
        bias(n_tiles * tile_width) {}

  VFE_HD const T* block_rows(std::int64_t tile, std::int64_t block) const {
    return rows.data() + (tile * n_blocks + block) * block_inputs * tile_width;
  }
};

// Fills one tile of `layer` (visible -> hidden of `rbm`) with convert(value, output - first output of
// the tile). One stride of the weights is 1: the loops follow the memory.
template <class Source, class T, class Convert>
VFE_HD void fill_tile(BitLayer<T>& layer, const RbmView& rbm, std::int64_t tile, const Convert& convert) {
  const std::int64_t first = tile * tile_width;
  const std::int64_t width = layer.n_out - first < tile_width ? layer.n_out - first : tile_width;
  const Source* bias = static_cast<const Source*>(rbm.hidden_bias) + first;
  const Source* weights = static_cast<const Source*>(rbm.weights) + first * rbm.hidden_stride;
  T* tile_bias = layer.bias.data() + first;
  for (std::int64_t l = 0; l < tile_width; ++l) tile_bias[l] = l < width ? convert(bias[l], l) : T(0);

  for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
    T* __restrict rows = layer.rows.data() + (tile * layer.n_blocks + block) * block_inputs * tile_width;
    const std::int64_t begin = block * block_inputs;
    const std::int64_t left = layer.n_in - begin;
    const std::int64_t count = left < 0 ? 0 : (left < block_inputs ? left : block_inputs);
    if (count < block_inputs || width < tile_width) {
      for (std::int64_t k = 0; k < block_inputs * tile_width; ++k) rows[k] = T(0);
    }
    if (rbm.hidden_stride == 1) {
      for (std::int64_t i = 0; i < count; ++i) {
        const Source* source = weights + (begin + i) * rbm.visible_stride;
        for (std::int64_t l = 0; l < width; ++l) rows[i * tile_width + l] = convert(source[l], l);
      }
    } else {
      for (std::int64_t l = 0; l < width; ++l) {
        const Source* source = weights + l * rbm.hidden_stride + begin;
        T column[block_inputs];
        for (std::int64_t i = 0; i < count; ++i) column[i] = convert(source[i], l);
        for (std::int64_t i = 0; i < count; ++i) rows[i * tile_width + l] = column[i];
      }
    }
  }
}

// The loops below run over the first `width` outputs of a tile, a multiple of 16 known to the compiler:
// a small layer does not pay for 64.

// table[g][m] = the sum of the rows of group g whose bits are set in m, added in ascending order.
template <std::int64_t width, class T>
VFE_HD void build_tables(const T* rows, T* table) {
  for (std::int64_t g = 0; g < block_groups; ++g) {
    T* sums = table + g * group_sums * width;
    const T* group = rows + g * group_inputs * tile_width;
    for (std::int64_t l = 0; l < width; ++l) sums[l] = T(0);
    for (std::int64_t bit = 0; bit < group_inputs; ++bit) {
      const std::int64_t known = std::int64_t{1} << bit;
      for (std::int64_t m = 0; m < known; ++m) {
        for (std::int64_t l = 0; l < width; ++l) {
          sums[(known + m) * width + l] = sums[m * width + l] + group[bit * tile_width + l];
        }
      }
    }
  }
}

template <std::int64_t width, class T>
VFE_HD void add_from_tables(T* __restrict field, const T* __restrict table, std::uint32_t bits) {
  const T* row[block_groups];
  for (std::int64_t g = 0; g < block_groups; ++g) {
    row[g] = table + (g * group_sums + ((bits >> (group_inputs * g)) & (group_sums - 1))) * width;
  }
  static_assert(block_groups == 8);
  for (std::int64_t l = 0; l < width; ++l) {
    field[l] = field[l] + row[0][l] + row[1][l] + row[2][l] + row[3][l] + row[4][l] + row[5][l] + row[6][l] + row[7][l];
  }
}

template <std::int64_t width, class T>
VFE_HD void add_rows(T* __restrict field, const T* __restrict rows, std::uint32_t bits) {
  for (std::int64_t g = 0; g < block_groups; ++g) {
    std::uint32_t left = (bits >> (group_inputs * g)) & (group_sums - 1);
    if (left == 0) continue;
    T sum[width] = {};
    for (; left != 0; left &= left - 1) {
      const T* row = rows + (g * group_inputs + __builtin_ctz(left)) * tile_width;
      for (std::int64_t l = 0; l < width; ++l) sum[l] += row[l];
    }
    for (std::int64_t l = 0; l < width; ++l) field[l] += sum[l];
  }
}

// field[s][l] = bias + sum of the weights into output tile * 64 + l of the inputs set in state s.
// `states` holds words_for(n_in) words a state; `table` has room for table_size numbers.
template <std::int64_t width, class T>
void tile_fields_of_width(const BitLayer<T>& layer, std::int64_t tile, const std::uint64_t* states,
                          std::int64_t n_states, T* fields, T* table) {
  const std::int64_t words = words_for(layer.n_in);
  const T* bias = layer.bias.data() + tile * tile_width;
  for (std::int64_t s = 0; s < n_states; ++s) {
    for (std::int64_t l = 0; l < tile_width; ++l) fields[s * tile_width + l] = bias[l];
  }
  const bool tabulate = n_states >= states_worth_a_table;
  for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
    const T* rows = layer.block_rows(tile, block);
    if (tabulate) build_tables<width>(rows, table);
    for (std::int64_t s = 0; s < n_states; ++s) {
      const std::uint64_t word = states[s * words + block / 2];
      const std::uint32_t bits = static_cast<std::uint32_t>(block % 2 == 0 ? word : word >> block_inputs);
      if (bits == 0) continue;
      T* field = fields + s * tile_width;
      tabulate ? add_from_tables<width>(field, table, bits) : add_rows<width>(field, rows, bits);
    }
  }
}

template <class T>
VFE_HD void tile_fields(const BitLayer<T>& layer, std::int64_t tile, const std::uint64_t* states, std::int64_t n_states,
                        T* fields, T* table) {
  const std::int64_t used = layer.n_out - tile * tile_width;
  if (used <= 16) return tile_fields_of_width<16>(layer, tile, states, n_states, fields, table);
  if (used <= 32) return tile_fields_of_width<32>(layer, tile, states, n_states, fields, table);
  return tile_fields_of_width<tile_width>(layer, tile, states, n_states, fields, table);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
