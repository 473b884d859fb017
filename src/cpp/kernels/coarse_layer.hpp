// Weighted sums of binary states in 16 bits, where that is enough to decide: half of the bytes that bit_layer.hpp adds.
//
// A draw asks whether a uniform number is below sigmoid(x). A bound of the error of x says for which draws the answer
// cannot change; the others, one in a hundred or so, get the exact sum. So what is drawn is the same, bit for bit.
//
// An exact weight is 2^(16 - shift) upper + lower. Sums of upper parts are kept modulo 2^16; over a section of some
// inputs their range is known, which takes care of the modulus, and sections are added up in 32 bits. Lower parts lie
// output by output: those that are set add up to what a coarse sum leaves out.
#pragma once

#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::int64_t section_blocks = 4;               // of inputs whose sums share a range
constexpr std::int64_t states_worth_coarse = 64;         // at a time
constexpr std::int64_t chain_steps_worth_coarse = 2048;  // of weights that are used once

struct CoarseLayer {
  using Upper = std::uint16_t;
  static constexpr std::int64_t exact_width = strip_width<std::int32_t>, width = strip_width<Upper>;
  static_assert(width == 2 * exact_width);

  const BitLayer<std::int32_t>& exact_layer;
  const BitLayer<Upper> layer;              // upper parts; a row has those of two strips of the exact layer in turns
  const std::int64_t n_sections, n_inputs;  // inputs with padding
  const std::int64_t n_outputs;             // with padding
  int shift = 0;
  const runtime::Buffer<std::int32_t> lowest, highest;  // (n_sections, n_outputs): of sums of a section's weights
  const runtime::Buffer<std::uint32_t> start;           // (strips, n_sections, exact_width): what sums begin with
  const runtime::Buffer<std::int32_t> total;            // (n_outputs,): what all sections began with, taken back
  const runtime::Buffer<std::int16_t> lower;            // (n_outputs, n_inputs)
  const runtime::Buffer<double> left_out;               // (n_outputs,): no sum of lower parts is larger

  explicit CoarseLayer(const BitLayer<std::int32_t>& of)
      : exact_layer(of),
        layer(of.n_in, of.n_out),
        n_sections(ceil_div(of.n_blocks, section_blocks)),
        n_inputs(of.n_blocks * block_inputs),
        n_outputs(layer.n_strips * width),
        lowest(n_sections * n_outputs),
        highest(n_sections * n_outputs),
        start(layer.n_strips * n_sections * exact_width),
        total(n_outputs),
        lower(n_outputs * n_inputs),
        left_out(n_outputs) {}

  // One thread's part of reading the exact layer.
  void share(runtime::Member& member) {
    for (std::int64_t strip; (strip = member.next(layer.n_strips)) >= 0;) find_ranges(strip);
    for (std::int64_t task; (task = member.next(1)) >= 0;) find_shift();
    for (std::int64_t strip; (strip = member.next(layer.n_strips)) >= 0;) fill(strip);
  }

  // One of a coarse sum, in units of the exact ones.
  std::int32_t unit() const { return std::int32_t{1} << (16 - shift); }

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
    std::int32_t found = coarse * unit();
    for (std::int64_t l = 0; l < lanes / 2; ++l) found += sum[l];
    return found;
  }

 private:
  using Long = Row<std::int32_t>;

  const Long& exact_row(std::int64_t strip, std::int64_t input) const {
    return row_at<std::int32_t>(exact_layer.block_rows(strip, 0) + input * exact_width, 0);
  }
  static Long& at(const runtime::Buffer<std::int32_t>& buffer, std::int64_t first) {
    return *reinterpret_cast<Long*>(buffer.data() + first);
  }

  void find_ranges(std::int64_t strip) const {
    for (std::int64_t section = 0; section < n_sections; ++section) {
      const std::int64_t first = section * section_blocks * block_inputs, after = first + section_blocks * block_inputs;
      for (std::int64_t k = 0; k < 2; ++k) {
        const std::int64_t of_exact = 2 * strip + k;
        Long low = {}, high = {};
        for (std::int64_t i = first; i < after && i < n_inputs && of_exact < exact_layer.n_strips; ++i) {
          const Long weights = exact_row(of_exact, i);
          low += where_greater(weights, {}, {}, weights);
          high += where_greater(weights, {}, weights, {});
        }
        at(lowest, section * n_outputs + of_exact * exact_width) = low;
        at(highest, section * n_outputs + of_exact * exact_width) = high;
      }
    }
  }

  // As fine as 16 bits have room for, with rounding.
  void find_shift() {
    std::int64_t widest = 1;
    for (std::int64_t k = 0; k < n_sections * n_outputs; ++k) {
      const std::int64_t range = std::int64_t{highest[k]} - lowest[k];
      widest = range > widest ? range : widest;
    }
    constexpr std::int64_t rounding = section_blocks * block_inputs / 2 + 1;
    for (shift = 1; shift < 15 && widest << (shift + 1) <= (32767 - rounding) << 17;) ++shift;
  }

  void fill(std::int64_t strip) const {
    runtime::check_interrupt();
    constexpr std::int64_t side = vector_width<std::int32_t>;
    using Square = Vector<std::int32_t>;
    const int dropped = 16 - shift;
    auto* upper = reinterpret_cast<Row<std::uint32_t>*>(layer.block_rows(strip, 0));
    for (std::int64_t i = 0; i <= layer.zero_row; ++i) upper[i] = {};
    for (std::int64_t k = 0; k < 2; ++k) {
      const std::int64_t of_exact = 2 * strip + k, first = of_exact * exact_width;
      Long below = {}, above = {};
      for (std::int64_t i = 0; i < n_inputs; i += side) {
        Long left[side];
        for (std::int64_t m = 0; m < side; ++m) {
          const Long weights = of_exact < exact_layer.n_strips ? exact_row(of_exact, i + m) : Long{};
          const Long rounded = (weights + Long::of(1 << (dropped - 1))) >> dropped;
          left[m] = weights - (rounded << dropped);
          below += where_greater(left[m], {}, {}, left[m]);
          above += where_greater(left[m], {}, left[m], {});
          const auto bits = std::bit_cast<Row<std::uint32_t>>(rounded);
          upper[i + m] = upper[i + m] | (k == 0 ? bits & 0xFFFFu : bits << 16);
        }
        for (std::int64_t p = 0; p < Long::parts; ++p) {
          Square square[side];
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
        total[first + l] = 0;
        for (std::int64_t section = 0; section < n_sections; ++section) {
          const std::int64_t range = section * n_outputs + first + l;
          const auto middle =
              static_cast<std::int32_t>((std::int64_t{lowest[range]} + highest[range]) >> (1 + dropped));
          total[first + l] += middle;
          std::uint32_t& both = start[(strip * n_sections + section) * exact_width + l];
          const std::uint32_t taken = static_cast<std::uint32_t>(-middle) & 0xFFFFu;
          both = k == 0 ? taken : both | taken << 16;
        }
      }
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
      const bool both = output + exact_width < layer.n_out;
      const Long of_first = row_at<std::int32_t>(coarse.total.data() + output, 0);
      const Long of_second = row_at<std::int32_t>(coarse.total.data() + output + exact_width, 0);
      for (std::int64_t s = 0; s < states.n; ++s) first[s] = of_first;
      for (std::int64_t s = 0; s < states.n && both; ++s) second[s] = of_second;
      for (std::int64_t section = 0; section < coarse.n_sections; ++section) {
        const auto start = row_at<Upper>(coarse.start.data() + (strip * coarse.n_sections + section) * exact_width, 0);
        for (std::int64_t s = 0; s < states.n; ++s) reinterpret_cast<Row<Upper>*>(sums)[s] = start;
        const std::int64_t begin = section * section_blocks, end = begin + section_blocks;
        for (std::int64_t block = begin; block < end && block < layer.n_blocks; ++block) {
          build_tables<group_inputs>(layer.block_rows(strip, block), table);
          add_tables_of_block<group_inputs>(states, block, table, sums);
        }
        const auto* sum = reinterpret_cast<const Long*>(sums);
        for (std::int64_t s = 0; s < states.n; ++s) first[s] += (sum[s] << 16) >> 16;
        for (std::int64_t s = 0; s < states.n && both; ++s) second[s] += sum[s] >> 16;
      }
    }
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
