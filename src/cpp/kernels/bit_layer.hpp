// Weighted sums of binary states: the technique that `gibbs` and `free_energy` share on a CPU.
//
// A state is a row of bits, so its field x_j = bias_j + sum_i s_i w_ij is a sum of rows of w. Four
// inputs have 16 possible sums: they are tabulated for a strip of outputs, 64 bytes, and a whole block of
// states adds one table row per four inputs, from the first-level cache. Fewer states are worth only the four
// sums of each pair of inputs, and very few none at all. Four inputs are always added as two pairs, so
// the three ways agree bit for bit, in floating point too.
#pragma once

#include <cstdint>
#include <utility>

#include "../runtime/scratch.hpp"
#include "rbm.hpp"
#include "vectors.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t word_bits = 64;            // states are packed, unit u in bit u % 64 of word u / 64
constexpr std::int64_t tile_width = word_bits;    // outputs whose fields are handed over together
constexpr std::int64_t block_inputs = word_bits;  // inputs done together
constexpr std::int64_t group_inputs = 4;
constexpr std::int64_t states_worth_pairs = 4, states_worth_groups = 16;  // measured

// Outputs done together: their 16 tables of 16 sums take half of a first-level cache of 32 kB.
constexpr std::int64_t strip_bytes = row_bytes;
template <class T>
constexpr std::int64_t strip_width = strip_bytes / static_cast<std::int64_t>(sizeof(T));
template <class T>
constexpr std::int64_t table_size = block_inputs / group_inputs * 16 * strip_width<T>;
VFE_HD std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
VFE_HD std::int64_t words_for(std::int64_t n_units) { return ceil_div(n_units, word_bits); }

template <class T>
VFE_HD const Row<T>& row_at(const void* rows, std::uint64_t offset) {
  return *reinterpret_cast<const Row<T>*>(static_cast<const char*>(rows) + offset);
}

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

// Calls body(width), with a constant if the strip is full: loops of known length.
template <class T, class Body>
VFE_HD void for_width(std::int64_t width, const Body& body) {
  width == strip_width<T> ? body(std::integral_constant<std::int64_t, strip_width<T>>{}) : body(width);
}

// Fills one strip of `layer` (visible -> hidden of `rbm`) with convert(value, output - first output of
// the strip). One stride of the weights is 1: the loops follow the memory.
template <class Source, class T, class Convert>
VFE_HD void fill_strip(const BitLayer<T>& layer, const RbmView& rbm, std::int64_t strip, const Convert& convert) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t first = strip * full;
  const Source* bias = static_cast<const Source*>(rbm.hidden_bias) + first;
  const Source* weights = static_cast<const Source*>(rbm.weights) + first * rbm.hidden_stride;
  T* __restrict rows = layer.block_rows(strip, 0);
  for_width<T>(layer.width_of(strip), [&](auto width) {
    for (std::int64_t l = 0; l < full; ++l) layer.bias[first + l] = l < width ? convert(bias[l], l) : T(0);
    if (rbm.hidden_stride == 1) {
      for (std::int64_t i = 0; i < layer.n_in; ++i) {
        const Source* source = weights + i * rbm.visible_stride;
        for (std::int64_t l = 0; l < width; ++l) rows[i * full + l] = convert(source[l], l);
        for (std::int64_t l = width; l < full; ++l) rows[i * full + l] = T(0);
      }
      return;
    }
    constexpr std::int64_t lanes = vector_width<Source>;
    static_assert(full % lanes == 0);
    for (std::int64_t i = 0; i < layer.n_in; i += lanes) {
      const std::int64_t left = layer.n_in - i, count = left < lanes ? left : lanes;
      alignas(strip_bytes) Source block[lanes][full];  // the same weights, input first
      for (std::int64_t begin = 0; begin < width; begin += lanes) {
        Vector<Source> columns[lanes] = {};
        for (std::int64_t l = 0; l < lanes && begin + l < width; ++l) {
          const Source* source = weights + (begin + l) * rbm.hidden_stride + i;
          if (count == lanes) {
            __builtin_memcpy(&columns[l], source, vector_bytes);
          } else {
            for (std::int64_t k = 0; k < count; ++k) columns[l][k] = source[k];
          }
        }
        transpose_square<Source>(columns);
        for (std::int64_t k = 0; k < lanes; ++k) __builtin_memcpy(&block[k][begin], &columns[k], vector_bytes);
      }
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t l = 0; l < width; ++l) rows[(i + k) * full + l] = convert(block[k][l], l);
        for (std::int64_t l = width; l < full; ++l) rows[(i + k) * full + l] = T(0);
      }
    }
  });
  for (std::int64_t k = layer.n_in * full; k < (layer.zero_row + 1) * full; ++k) rows[k] = T(0);
}

// Packed states, in any order.
struct States {
  const std::uint64_t* words;
  std::int64_t n, state_stride, word_stride;

  VFE_HD std::uint64_t word(std::int64_t state, std::int64_t block) const {
    return words[state * state_stride + block * word_stride];
  }
};

// table[g][m] = the sum of the rows of group g whose bits are set in m; a group has 2 or 4 inputs.
template <std::int64_t inputs, class T>
VFE_HD void build_tables(const T* __restrict rows, T* __restrict table) {
  auto* into = reinterpret_cast<Row<T>*>(table);
  for (std::int64_t i = 0; i < block_inputs; i += inputs, into += std::int64_t{1} << inputs) {
    const auto* from = reinterpret_cast<const Row<T>*>(rows) + i;
    const Row<T> low[4] = {Row<T>{}, from[0], from[1], from[0] + from[1]};
    if constexpr (inputs == 2) {
      for (std::int64_t m = 0; m < 4; ++m) into[m] = low[m];
    } else {
      const Row<T> high[4] = {Row<T>{}, from[2], from[3], from[2] + from[3]};
      VFE_UNROLL
      for (std::int64_t m = 0; m < 16; ++m) into[m] = low[m % 4] + high[m / 4];
    }
  }
}

// The table row of the inputs from `first` on: its index in `bits`, times the bytes of a row.
template <std::int64_t inputs>
VFE_HD std::uint64_t row_offset(std::uint64_t bits, std::int64_t first) {
  constexpr std::int64_t shift = 6;
  static_assert(strip_bytes == 1 << shift);
  const std::uint64_t index = first < shift ? bits << (shift - first) : bits >> (first - shift);
  return index & (((std::uint64_t{1} << inputs) - 1) << shift);
}

// Adds the 16 inputs from `first` on, four by four: ((1 + 2) + (3 + 4)).
template <std::int64_t inputs, class T>
VFE_HD void add_rows_of_tables(Row<T>& sum, const T* table, std::uint64_t bits, std::int64_t first) {
  constexpr std::int64_t rows_per_input = (1 << inputs) / inputs * strip_width<T>;
  Row<T> four[4];
  VFE_UNROLL
  for (std::int64_t g = 0; g < 4; ++g) {
    const std::int64_t input = first + group_inputs * g;
    four[g] = row_at<T>(table + input * rows_per_input, row_offset<inputs>(bits, input));
    if constexpr (inputs == 2) {
      four[g] += row_at<T>(table + (input + 2) * rows_per_input, row_offset<inputs>(bits, input + 2));
    }
  }
  sum += (four[0] + four[1]) + (four[2] + four[3]);
}

// Adds one block of inputs to a strip's fields of all states.
template <std::int64_t inputs, class T>
VFE_HD void add_tables_of_block(const States& states, std::int64_t block, const T* table, T* fields) {
  auto* field = reinterpret_cast<Row<T>*>(fields);
  for (std::int64_t s = 0; s < states.n; ++s) {
    const std::uint64_t bits = states.word(s, block);
    if (bits == 0) continue;
    Row<T> sum = field[s];
    VFE_UNROLL
    for (std::int64_t first = 0; first < block_inputs; first += 16) {
      if ((bits >> first & 0xFFFF) == 0) continue;
      add_rows_of_tables<inputs>(sum, table, bits, first);
    }
    field[s] = sum;
  }
}

// A strip's fields of all states, block by block.
template <std::int64_t inputs, class T>
void add_tables(const BitLayer<T>& layer, std::int64_t strip, const States& states, T* fields, T* table) {
  for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
    build_tables<inputs>(layer.block_rows(strip, block), table);
    add_tables_of_block<inputs>(states, block, table, fields);
  }
}

// Without tables. The row of zeros stands in for inputs that are not set: no branch to predict.
template <class T>
VFE_HD void add_rows(T* field, const T* rows, const std::int64_t (&offset)[block_inputs]) {
  Row<T> sum = row_at<T>(field, 0);
  for (std::int64_t i = 0; i < block_inputs; i += 16) {
    Row<T> four[4];
    VFE_UNROLL
    for (std::int64_t g = 0; g < 4; ++g) {
      const std::int64_t* of = offset + i + g * group_inputs;
      four[g] = (row_at<T>(rows, of[0]) + row_at<T>(rows, of[1])) + (row_at<T>(rows, of[2]) + row_at<T>(rows, of[3]));
    }
    sum += (four[0] + four[1]) + (four[2] + four[3]);
  }
  *reinterpret_cast<Row<T>*>(field) = sum;
}

// Of integers, whose sums have no order: only the rows of the inputs that are set, at these offsets in bytes.
template <class T>
VFE_HD void add_set_rows(T* field, const T* rows, const std::uint32_t* offset, std::int64_t count) {
  Row<T> sum[4] = {row_at<T>(field, 0), Row<T>{}, Row<T>{}, Row<T>{}};
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {
    VFE_UNROLL
    for (std::int64_t i = 0; i < 4; ++i) sum[i] += row_at<T>(rows, offset[k + i]);
  }
  for (; k < count; ++k) sum[0] += row_at<T>(rows, offset[k]);
  *reinterpret_cast<Row<T>*>(field) = (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// The inputs in which some states differ from those before them.
class Flips {
 public:
  Flips(std::int64_t n_inputs, std::int64_t n_states)
      : n_blocks_(ceil_div(n_inputs, block_inputs)),
        most_(n_states * n_inputs / 4),
        ends_(2 * n_states),
        offsets_(most_) {}

  // Whether the states are so near those before that their fields are sooner found from those: the flips are listed.
  bool list(const States& states, const States& before) {
    std::int64_t n_flips = 0, n_table_rows = 0;
    for (std::int64_t s = 0; s < states.n; ++s) {
      for (std::int64_t block = 0; block < n_blocks_; ++block) {
        const std::uint64_t bits = states.word(s, block);
        n_flips += __builtin_popcountll(bits ^ before.word(s, block));
        for (std::int64_t i = 0; i < block_inputs; i += 16) n_table_rows += (bits >> i & 0xFFFF) != 0 ? 4 : 0;
      }
    }
    if (n_flips > most_ || n_flips + flips_per_state * states.n >= n_table_rows) return false;
    std::int64_t end = 0;
    for (std::int64_t s = 0; s < states.n; ++s) {
      ends_[2 * s] = end = list_set(states, before, s, end);
      ends_[2 * s + 1] = end = list_set(before, states, s, end);
    }
    return true;
  }

  // field + the rows of what is set in state s and was not - those of what was set and is not.
  template <class T>
  VFE_HD Row<T> added_to(const Row<T>& field, const T* rows, std::int64_t s) const {
    Row<T> sum = field;
    std::int64_t k = s > 0 ? ends_[2 * s - 1] : 0;
    for (const std::int64_t end = ends_[2 * s]; k < end; ++k) sum += row_at<T>(rows, offsets_[k]);
    for (const std::int64_t end = ends_[2 * s + 1]; k < end; ++k) sum -= row_at<T>(rows, offsets_[k]);
    return sum;
  }

 private:
  static constexpr std::int64_t flips_per_state = 16;  // what a state costs beside them, measured

  // Lists what is set in state s, and not in the other, from `end` on; returns where it ends.
  std::int64_t list_set(const States& states, const States& other, std::int64_t s, std::int64_t end) const {
    for (std::int64_t block = 0; block < n_blocks_; ++block) {
      std::uint64_t left = states.word(s, block) & ~other.word(s, block);
      for (; left != 0; left &= left - 1) {
        offsets_[end++] = static_cast<std::uint32_t>((block * block_inputs + __builtin_ctzll(left)) * strip_bytes);
      }
    }
    return end;
  }

  const std::int64_t n_blocks_, most_;
  const runtime::Buffer<std::int64_t> ends_;      // (n_states, 2): where a state's flips to 1 and to 0 end
  const runtime::Buffer<std::uint32_t> offsets_;  // (most,): of rows
};

// The fields of up to max_states states, tile by tile.
template <class T>
struct TileFields {
  static constexpr bool any_order = std::is_integral_v<T>;
  static constexpr std::int64_t full = strip_width<T>;

  const BitLayer<T>& layer;
  runtime::Buffer<T> table;
  runtime::Buffer<std::uint32_t> set_offset;  // (states_worth_pairs, n_in): of the rows of inputs that are set
  std::int64_t n_set[states_worth_pairs];
  States states;

  TileFields(const BitLayer<T>& weights, std::int64_t max_states)
      : layer(weights),
        table(table_size<T>),
        set_offset(any_order ? (max_states < states_worth_pairs ? max_states : states_worth_pairs - 1) * layer.n_in
                             : 0),
        states{nullptr, 0, 0, 0} {}

  void start(const States& given) {
    states = given;
    if (!any_order || states.n >= states_worth_pairs) return;
    for (std::int64_t s = 0; s < states.n; ++s) {
      std::uint32_t* offset = set_offset.data() + s * layer.n_in;
      for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
        for (std::uint64_t bits = states.word(s, block); bits != 0; bits &= bits - 1) {
          *offset++ = static_cast<std::uint32_t>((block * block_inputs + __builtin_ctzll(bits)) * strip_bytes);
        }
      }
      n_set[s] = offset - (set_offset.data() + s * layer.n_in);
    }
  }

  // fields[k][s][l] = bias + sum of the weights into output tile * 64 + k * strip_width + l of the inputs set in state
  // s, for the strips of the tile that there are.
  void find(std::int64_t tile, T* fields) {
    const std::int64_t first_strip = tile * (tile_width / full), left = layer.n_strips - first_strip;
    for (std::int64_t k = 0; k < left && k < tile_width / full; ++k) {
      T* field = fields + k * states.n * full;
      const std::int64_t strip = first_strip + k;
      const Row<T> bias = row_at<T>(layer.bias.data() + strip * full, 0);
      for (std::int64_t s = 0; s < states.n; ++s) reinterpret_cast<Row<T>*>(field)[s] = bias;
      if (states.n >= states_worth_groups) {
        add_tables<4>(layer, strip, states, field, table.data());
      } else if (states.n >= states_worth_pairs) {
        add_tables<2>(layer, strip, states, field, table.data());
      } else if constexpr (any_order) {
        for (std::int64_t s = 0; s < states.n; ++s) {
          add_set_rows(field + s * full, layer.block_rows(strip, 0), set_offset.data() + s * layer.n_in, n_set[s]);
        }
      } else {
        for (std::int64_t s = 0; s < states.n; ++s) add_all_rows(field + s * full, strip, s);
      }
    }
  }

  // The same from the fields of the states before, of integers.
  void update(std::int64_t tile, const Flips& flips, T* fields) const {
    static_assert(any_order);
    auto* field = reinterpret_cast<Row<T>*>(fields);
    const std::int64_t first_strip = tile * (tile_width / full), left = layer.n_strips - first_strip;
    for (std::int64_t k = 0; k < left && k < tile_width / full; ++k, field += states.n) {
      const T* rows = layer.block_rows(first_strip + k, 0);
      for (std::int64_t s = 0; s < states.n; ++s) field[s] = flips.added_to<T>(field[s], rows, s);
    }
  }

  VFE_HD void add_all_rows(T* field, std::int64_t strip, std::int64_t s) const {
    for (std::int64_t block = 0; block < layer.n_blocks; ++block) {
      const std::uint64_t bits = states.word(s, block);
      if (bits == 0) continue;
      std::int64_t offset[block_inputs];
      const std::int64_t zero_row = layer.zero_row - block * block_inputs;
      for (std::int64_t i = 0; i < block_inputs; ++i) {
        const std::int64_t if_set = -static_cast<std::int64_t>(bits >> i & 1);
        offset[i] = (zero_row + ((i - zero_row) & if_set)) * strip_bytes;
      }
      add_rows(field, layer.block_rows(strip, block), offset);
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
