// Weighted sums of binary states: the technique that `gibbs` and `free_energy` share on a CPU.
//
// A state is a row of bits, so its field x_j = bias_j + sum_i s_i w_ij is a sum of rows of w. Four
// inputs have 16 possible sums: they are tabulated for a strip of outputs and a whole block of states
// adds one table row per four inputs, from the first-level cache. Fewer states are worth only the four
// sums of each pair of inputs, and very few none at all. Four inputs are always added as two pairs, so
// the three ways agree bit for bit, in floating point too.
#pragma once

#include <cstdint>

#include "../runtime/scratch.hpp"
#include "rbm.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t word_bits = 64;                // states are packed, unit u in bit u % 64 of word u / 64
constexpr std::int64_t tile_width = word_bits;        // outputs whose fields are handed over together
constexpr std::int64_t block_inputs = word_bits / 2;  // inputs done together
constexpr std::int64_t group_inputs = 4;
constexpr std::int64_t states_worth_pairs = 4, states_worth_groups = 16;  // measured

// Outputs done together: their 8 tables of 16 sums take half of a first-level cache of 32 kB.
template <class T>
constexpr std::int64_t strip_width = 128 / static_cast<std::int64_t>(sizeof(T));
template <class T>
constexpr std::int64_t table_size = block_inputs / group_inputs * 16 * strip_width<T>;
static_assert(block_inputs / group_inputs == 8 && group_inputs == 4);

VFE_HD std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
VFE_HD std::int64_t words_for(std::int64_t n_units) { return ceil_div(n_units, word_bits); }

// The weights into one layer, cut into strips and padded with zeros.
template <class T>
struct BitLayer {
  std::int64_t n_in, n_out, n_blocks, n_strips, n_tiles;
  std::int64_t zero_row;    // number of the row of zeros that ends each strip
  runtime::Buffer<T> rows;  // (n_strips, zero_row + 1, strip_width)
  runtime::Buffer<T> bias;  // (n_strips, strip_width)

  VFE_HD BitLayer(std::int64_t inputs, std::int64_t outputs)
      : n_in(inputs),
        n_out(outputs),
        n_blocks(ceil_div(inputs, block_inputs)),
        n_strips(ceil_div(outputs, strip_width<T>)),
        n_tiles(ceil_div(outputs, tile_width)),
        zero_row(n_blocks * block_inputs),
        rows(n_strips * (zero_row + 1) * strip_width<T>),
        bias(n_strips * strip_width<T>) {}

  VFE_HD T* block_rows(std::int64_t strip, std::int64_t block) const {
    return rows.data() + (strip * (zero_row + 1) + block * block_inputs) * strip_width<T>;
  }
  VFE_HD std::int64_t width_of(std::int64_t strip) const {  // outputs that are not padding
    const std::int64_t left = n_out - strip * strip_width<T>;
    return left < strip_width<T> ? left : strip_width<T>;
  }
};

// Fills one strip of `layer` (visible -> hidden of `rbm`) with convert(value, output - first output of
// the strip). One stride of the weights is 1: the loops follow the memory.
template <class Source, class T, class Convert>
VFE_HD void fill_strip(const BitLayer<T>& layer, const RbmView& rbm, std::int64_t strip, const Convert& convert) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t first = strip * full, width = layer.width_of(strip);
  const Source* bias = static_cast<const Source*>(rbm.hidden_bias) + first;
  const Source* weights = static_cast<const Source*>(rbm.weights) + first * rbm.hidden_stride;
  for (std::int64_t l = 0; l < full; ++l) layer.bias[first + l] = l < width ? convert(bias[l], l) : T(0);
  T* __restrict zeros = layer.block_rows(strip, layer.n_blocks);
  for (std::int64_t l = 0; l < full; ++l) zeros[l] = T(0);

  for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
    T* __restrict rows = layer.block_rows(strip, block);
    const std::int64_t begin = block * block_inputs;
    const std::int64_t count = layer.n_in - begin < block_inputs ? layer.n_in - begin : block_inputs;
    if (count < block_inputs || width < full) {
      for (std::int64_t k = 0; k < block_inputs * full; ++k) rows[k] = T(0);
    }
    if (rbm.hidden_stride == 1) {
      for (std::int64_t i = 0; i < count; ++i) {
        const Source* source = weights + (begin + i) * rbm.visible_stride;
        for (std::int64_t l = 0; l < width; ++l) rows[i * full + l] = convert(source[l], l);
      }
    } else {
      for (std::int64_t l = 0; l < width; ++l) {
        const Source* source = weights + l * rbm.hidden_stride + begin;
        T column[block_inputs];
        for (std::int64_t i = 0; i < count; ++i) column[i] = convert(source[i], l);
        for (std::int64_t i = 0; i < count; ++i) rows[i * full + l] = column[i];
      }
    }
  }
}

// table[g][m] = the sum of the rows of group g whose bits are set in m; a group has 2 or 4 inputs.
template <std::int64_t inputs, class T>
VFE_HD void build_tables(const T* __restrict rows, T* __restrict table) {
  constexpr std::int64_t full = strip_width<T>;
  for (std::int64_t g = 0; g < block_inputs / inputs; ++g) {
    for (std::int64_t l = 0; l < full; ++l) {
      const T low[4] = {T(0), rows[l], rows[full + l], rows[l] + rows[full + l]};
      if constexpr (inputs == 2) {
        for (std::int64_t m = 0; m < 4; ++m) table[m * full + l] = low[m];
      } else {
        const T third = rows[2 * full + l], fourth = rows[3 * full + l];
        const T high[4] = {T(0), third, fourth, third + fourth};
        for (std::int64_t m = 0; m < 16; ++m) table[m * full + l] = low[m % 4] + high[m / 4];
      }
    }
    rows += inputs * full;
    table += (std::int64_t{1} << inputs) * full;
  }
}

// A field takes up the sums of four groups at a time, ((1 + 2) + (3 + 4)).

template <class T>
VFE_HD void add_groups(T* __restrict field, const T* __restrict table, std::uint32_t bits) {
  constexpr std::int64_t full = strip_width<T>;
  const T* row[8];
  for (std::int64_t g = 0; g < 8; ++g) row[g] = table + (g * 16 + ((bits >> (4 * g)) & 15)) * full;
  for (std::int64_t l = 0; l < full; ++l) {
    field[l] = field[l] + ((row[0][l] + row[1][l]) + (row[2][l] + row[3][l])) +
               ((row[4][l] + row[5][l]) + (row[6][l] + row[7][l]));
  }
}

template <class T>
VFE_HD void add_pairs(T* __restrict field, const T* __restrict table, std::uint32_t bits) {
  constexpr std::int64_t full = strip_width<T>;
  for (std::int64_t half = 0; half < 2; ++half, bits >>= 16, table += 32 * full) {
    const T* row[8];
    for (std::int64_t g = 0; g < 8; ++g) row[g] = table + (g * 4 + ((bits >> (2 * g)) & 3)) * full;
    for (std::int64_t l = 0; l < full; ++l) {
      field[l] = field[l] + (((row[0][l] + row[1][l]) + (row[2][l] + row[3][l])) +
                             ((row[4][l] + row[5][l]) + (row[6][l] + row[7][l])));
    }
  }
}

// The row of zeros stands in for inputs that are not set: no branch to predict.
template <class T>
VFE_HD void add_rows(T* __restrict field, const T* __restrict rows, const std::int64_t (&row)[block_inputs]) {
  constexpr std::int64_t full = strip_width<T>;
  for (std::int64_t i = 0; i < block_inputs; i += 4 * group_inputs) {
    T sums[4][full];
    for (std::int64_t g = 0; g < 4; ++g) {
      const std::int64_t* of = row + i + g * group_inputs;
      const T *first = rows + of[0], *second = rows + of[1], *third = rows + of[2], *fourth = rows + of[3];
      for (std::int64_t l = 0; l < full; ++l) sums[g][l] = (first[l] + second[l]) + (third[l] + fourth[l]);
    }
    for (std::int64_t l = 0; l < full; ++l) field[l] += (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
  }
}

VFE_HD std::uint32_t block_bits(const std::uint64_t* state, std::int64_t block) {
  return static_cast<std::uint32_t>(state[block / 2] >> (block % 2 * block_inputs));
}

// fields[s][l] = bias + sum of the weights into output tile * 64 + l of the inputs set in state s, for the
// whole strips of the tile. `states` holds words_for(n_in) words a state; `table` has room for table_size numbers.
template <class T>
void tile_fields(const BitLayer<T>& layer, std::int64_t tile, const std::uint64_t* states, std::int64_t n_states,
                 T* fields, T* table) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t words = words_for(layer.n_in);
  const std::int64_t first_strip = tile * (tile_width / full), left = layer.n_strips - first_strip;
  const std::int64_t n_strips = left < tile_width / full ? left : tile_width / full;
  for (std::int64_t s = 0; s < n_states; ++s) {
    const T* bias = layer.bias.data() + first_strip * full;
    for (std::int64_t l = 0; l < n_strips * full; ++l) fields[s * tile_width + l] = bias[l];
  }
  if (n_states < states_worth_pairs) {
    for (std::int64_t s = 0; s < n_states; ++s) {
      for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
        const std::uint32_t bits = block_bits(states + s * words, block);
        if (bits == 0) continue;
        std::int64_t row[block_inputs];
        const std::int64_t zero_row = layer.zero_row - block * block_inputs;
        for (std::int64_t i = 0; i < block_inputs; ++i) {
          const std::int64_t if_set = -static_cast<std::int64_t>(bits >> i & 1);
          row[i] = (zero_row + ((i - zero_row) & if_set)) * full;
        }
        for (std::int64_t k = 0; k < n_strips; ++k) {
          add_rows(fields + s * tile_width + k * full, layer.block_rows(first_strip + k, block), row);
        }
      }
    }
    return;
  }
  const bool by_groups = n_states >= states_worth_groups;
  for (std::int64_t k = 0; k < n_strips; ++k) {
    for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
      const T* rows = layer.block_rows(first_strip + k, block);
      by_groups ? build_tables<4>(rows, table) : build_tables<2>(rows, table);
      for (std::int64_t s = 0; s < n_states; ++s) {
        const std::uint32_t bits = block_bits(states + s * words, block);
        if (bits == 0) continue;
        T* field = fields + s * tile_width + k * full;
        by_groups ? add_groups(field, table, bits) : add_pairs(field, table, bits);
      }
    }
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
