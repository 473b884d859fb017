// Weighted sums of binary states in 16 bits, where that is enough to decide: half of the bytes that bit_layer.hpp adds.
//
// A draw asks whether a uniform number is below sigmoid(x). A bound of the error of x says for which draws the answer
// cannot change; the others, one in a hundred or so, get the exact sum. So what is drawn is the same, bit for bit.
//
// An exact weight is unit * upper + lower, unit a power of two. Sums of upper parts are kept modulo 2^16; over a
// section of some inputs their range is known, which takes care of the modulus, and sections are added up in 32 bits.
// Lower parts lie output by output: those that are set add up to what a coarse sum leaves out.
#pragma once

#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t chain_steps_worth_coarse = 512;  // chains times steps, where the weights are used once

// Whether to make coarse layers for chains that are moved in blocks of `size`: `kept` ones serve later calls too.
VFE_HD bool coarse_is_worth(std::int64_t size, std::int64_t n_chains, std::int64_t n_steps, bool kept) {
  return size >= states_worth_groups && (kept || n_steps >= ceil_div(chain_steps_worth_coarse, n_chains));
}

struct CoarseLayer {
  using Upper = std::uint16_t;
  static constexpr std::int64_t exact_width = strip_width<std::int32_t>, width = strip_width<Upper>;
  static_assert(width == 2 * exact_width);

  const BitLayer<std::int32_t>& exact_layer;
  const BitLayer<Upper> layer;              // upper parts; a row has those of two strips of the exact layer in turns
  const std::int64_t section_blocks;        // blocks of inputs in a section
  const std::int64_t n_sections, n_inputs;  // inputs with padding
  const std::int64_t n_outputs;             // in whole tiles
  const runtime::Buffer<std::int32_t> dropped;  // (n_outputs,): bits below the upper part
  const runtime::Buffer<std::uint32_t> start;   // (strips, n_sections, exact_width): what sums begin with
  const runtime::Buffer<std::int32_t> total;    // (n_outputs,): what all sections began with, taken back
  const runtime::Buffer<std::int16_t> lower;    // (n_outputs, n_inputs)
  const runtime::Buffer<double> left_out;       // (n_outputs,): no sum of lower parts is larger

  explicit CoarseLayer(const BitLayer<std::int32_t>& of)
      : exact_layer(of),
        layer(of.n_in, of.n_out),
        section_blocks(blocks_of_a_section(of.n_blocks)),
        n_sections(ceil_div(of.n_blocks, section_blocks)),
        n_inputs(of.n_blocks * block_inputs),
        n_outputs(of.n_tiles * tile_width),
        dropped(n_outputs),
        start(layer.n_strips * n_sections * exact_width),
        total(n_outputs),
        lower(n_outputs * n_inputs),
        left_out(n_outputs) {
    for (std::int64_t j = 0; j < n_outputs; ++j) dropped[j] = 0;
    for (std::int64_t j = 0; j < n_outputs; ++j) left_out[j] = 0;
  }

  // One thread's part of reading the exact layer.
  void share(runtime::Member& member) {
    for (std::int64_t strip; (strip = member.next(layer.n_strips)) >= 0;) {
      runtime::check_interrupt();
      for (std::int64_t k = 0; k < 2; ++k) read(strip, k);
    }
  }

  // What one stands for in a coarse sum.
  VFE_HD std::int32_t unit(std::int64_t output) const { return std::int32_t{1} << dropped[output]; }

  // The sum of the weights into one output of the inputs set in state s, of which coarse is the sum of upper parts.
  VFE_HD std::int32_t exact(std::int32_t coarse, std::int64_t output, const States& states, std::int64_t s) const {
    constexpr std::int64_t bytes = vector_bytes < 32 ? 16 : 32, lanes = bytes / 2;
    typedef std::int16_t Short [[gnu::vector_size(bytes)]];
    typedef std::int32_t Pairs [[gnu::vector_size(bytes)]];
    Short of_lane[16 / lanes];
    for (std::int64_t l = 0; l < 16; ++l) of_lane[l / lanes][l % lanes] = static_cast<std::int16_t>(1u << l);
    Pairs sum = {};
    const std::int16_t* parts = lower.data() + output * n_inputs;
    for (std::int64_t block = 0; block < layer.n_blocks; ++block, parts += block_inputs) {
      const std::uint64_t bits = states.word(s, block);
      VFE_UNROLL
      for (std::int64_t i = 0; i < block_inputs; i += 2 * lanes) {
        Short two = {};
        VFE_UNROLL
        for (std::int64_t k = i; k < i + 2 * lanes; k += lanes) {
          const Short lane = of_lane[k % 16 / lanes], all = Short{} + static_cast<std::int16_t>(bits >> (k / 16 * 16));
          two += ((all & lane) == lane) & *reinterpret_cast<const Short*>(parts + k);
        }
        const auto pairs = reinterpret_cast<Pairs>(two);
        sum += ((pairs << 16) >> 16) + (pairs >> 16);
      }
    }
    std::int32_t found = coarse * unit(output);
    for (std::int64_t l = 0; l < lanes / 2; ++l) found += sum[l];
    return found;
  }

 private:
  using Long = Row<std::int32_t>;

  // What is left out grows with the number of inputs, and with the range of a section's sums: the more inputs, the
  // fewer in a section.
  static constexpr std::int64_t most_section_blocks = 4, blocks_worth_pairs = 16, blocks_worth_one = 32;
  static std::int64_t blocks_of_a_section(std::int64_t n_blocks) {
    return n_blocks <= blocks_worth_pairs ? most_section_blocks : n_blocks <= blocks_worth_one ? 2 : 1;
  }

  Long exact_row(std::int64_t strip, std::int64_t input) const {
    if (strip >= exact_layer.n_strips) return {};
    return row_at<std::int32_t>(exact_layer.block_rows(strip, 0) + input * exact_width, 0);
  }
  Row<std::uint32_t>& upper_row(std::int64_t strip, std::int64_t input) const {
    return reinterpret_cast<Row<std::uint32_t>*>(layer.block_rows(strip, 0))[input];
  }

  // Half k of a strip: one strip of the exact layer.
  void read(std::int64_t strip, std::int64_t k) const {
    const std::int64_t of_exact = 2 * strip + k, first = of_exact * exact_width;
    const runtime::Buffer<Long> lowest(n_sections), highest(n_sections);  // of sums of a section's weights
    for (std::int64_t section = 0; section < n_sections; ++section) {
      const std::int64_t begin = section * section_blocks * block_inputs, end = begin + section_blocks * block_inputs;
      lowest[section] = highest[section] = {};
      for (std::int64_t i = begin; i < end && i < n_inputs; ++i) {
        const Long weights = exact_row(of_exact, i);
        lowest[section] += where_greater(weights, {}, {}, weights);
        highest[section] += where_greater(weights, {}, weights, {});
      }
    }
    for (std::int64_t l = 0; l < exact_width; ++l) {
      std::int64_t widest = 0;
      for (std::int64_t section = 0; section < n_sections; ++section) {
        const std::int64_t range = std::int64_t{highest[section][l]} - lowest[section][l];
        widest = range > widest ? range : widest;
      }
      dropped[first + l] = bits_to_drop(widest, section_blocks);
      total[first + l] = 0;
      for (std::int64_t section = 0; section < n_sections; ++section) {
        const std::int64_t ends = std::int64_t{lowest[section][l]} + highest[section][l];
        const auto middle = static_cast<std::int32_t>(ends >> (1 + dropped[first + l]));
        total[first + l] += middle;
        std::uint32_t& packed = start[(strip * n_sections + section) * exact_width + l];
        const std::uint32_t taken = static_cast<std::uint32_t>(-middle) & 0xFFFFu;
        packed = k == 0 ? taken : packed | taken << 16;
      }
    }
    split(strip, k);
  }

  static constexpr std::int32_t most_dropped = 15;  // so that two lower parts add up in 16 bits
  // As few as leave the range of a section's sums, and its rounding, to 16 bits.
  static std::int32_t bits_to_drop(std::int64_t range, std::int64_t section_blocks) {
    static_assert(2 * (32767 - (most_section_blocks * block_inputs / 2 + 1)) << most_dropped >=
                  std::int64_t{1} << 30);  // what no sum of weights exceeds
    const std::int64_t rounding = section_blocks * block_inputs / 2 + 1;
    const std::int64_t room = 2 * (32767 - rounding);
    std::int32_t bits = 1;
    while (bits < most_dropped && range > room << bits) ++bits;
    return bits;
  }

  void split(std::int64_t strip, std::int64_t k) const {
    constexpr std::int64_t side = vector_width<std::int32_t>;
    const std::int64_t of_exact = 2 * strip + k, first = of_exact * exact_width;
    const Long bits = row_at<std::int32_t>(dropped.data() + first, 0);
    const Long half = Long::of(1) << (bits - Long::of(1));
    Long below = {}, above = {};
    for (std::int64_t i = 0; i < n_inputs; i += side) {
      Long left[side];
      for (std::int64_t m = 0; m < side; ++m) {
        const Long weights = exact_row(of_exact, i + m), rounded = (weights + half) >> bits;
        left[m] = weights - (rounded << bits);
        below += where_greater(left[m], {}, {}, left[m]);
        above += where_greater(left[m], {}, left[m], {});
        const auto upper = rounded.as<std::uint32_t>();
        upper_row(strip, i + m) = k == 0 ? upper & 0xFFFFu : upper_row(strip, i + m) | (upper << 16);
      }
      for (std::int64_t p = 0; p < Long::parts; ++p) {
        Vector<std::int32_t> square[side];
        for (std::int64_t m = 0; m < side; ++m) square[m] = left[m].part[p];
        transpose_square<std::int32_t>(square);
        for (std::int64_t m = 0; m < side; ++m) {
          std::int16_t* to = lower.data() + (first + p * side + m) * n_inputs + i;
          for (std::int64_t l = 0; l < side; ++l) to[l] = static_cast<std::int16_t>(square[m][l]);
        }
      }
    }
    for (std::int64_t l = 0; l < exact_width; ++l) {
      left_out[first + l] = static_cast<double>(above[l] > -below[l] ? above[l] : -below[l]);
    }
  }
};

// The coarse fields of some states, tile by tile.
struct CoarseFields {
  using Upper = CoarseLayer::Upper;
  static constexpr std::int64_t exact_width = CoarseLayer::exact_width, width = CoarseLayer::width;

  const CoarseLayer& coarse;
  States states;
  Upper *table, *sums;  // (table_size<Upper>,) and (states.n, width)

  // As TileFields::find, in coarse units.
  void find(std::int64_t tile, std::int32_t* fields) const {
    using Long = Row<std::int32_t>;
    const BitLayer<Upper>& layer = coarse.layer;
    const std::int64_t first_strip = tile * (tile_width / width), left = layer.n_strips - first_strip;
    for (std::int64_t k = 0; k < left && k < tile_width / width; ++k) {
      const std::int64_t strip = first_strip + k, output = strip * width;
      auto* first = reinterpret_cast<Long*>(fields) + 2 * k * states.n;
      Long* second = first + states.n;
      const bool has_second = output + exact_width < layer.n_out;
      const Long of_first = row_at<std::int32_t>(coarse.total.data() + output, 0);
      const Long of_second = row_at<std::int32_t>(coarse.total.data() + output + exact_width, 0);
      for (std::int64_t s = 0; s < states.n; ++s) first[s] = of_first;
      for (std::int64_t s = 0; s < states.n && has_second; ++s) second[s] = of_second;
      for (std::int64_t section = 0; section < coarse.n_sections; ++section) {
        const auto start =
            row_at<std::uint32_t>(coarse.start.data() + (strip * coarse.n_sections + section) * exact_width, 0);
        auto* sum = reinterpret_cast<Row<Upper>*>(sums);
        for (std::int64_t s = 0; s < states.n; ++s) sum[s] = start.as<Upper>();
        const std::int64_t begin = section * coarse.section_blocks, end = begin + coarse.section_blocks;
        for (std::int64_t block = begin; block < end && block < layer.n_blocks; ++block) {
          build_tables<group_inputs>(layer.block_rows(strip, block), table);
          add_tables_of_block<group_inputs>(states, block, table, sums);
        }
        for (std::int64_t s = 0; s < states.n; ++s) first[s] += (sum[s].as<std::int32_t>() << 16) >> 16;
        for (std::int64_t s = 0; s < states.n && has_second; ++s) second[s] += sum[s].as<std::int32_t>() >> 16;
      }
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
