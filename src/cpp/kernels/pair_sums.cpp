#include "pair_sums.hpp"

#include "../runtime/threads.hpp"
#include "bit_pairs.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t max_samples = 1 << 11;  // whose rows, 512 kB, are added up at a time

template <class T>
void run(const PairSumsArgs& args) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t n_words = words_for(args.n_samples);
  const runtime::Buffer<std::uint64_t> by_unit(n_words * args.n_units);
  const States samples{args.states, args.n_samples, words_for(args.n_units), 1};
  for (std::int64_t w = 0; w < words_for(args.n_units); ++w) transpose_word(samples, w, args.n_units, by_unit.data());
  for (std::int64_t u = 0; u < args.n_units; ++u) {
    args.counts[u] = 0;
    for (std::int64_t w = 0; w < n_words; ++w) {
      args.counts[u] += __builtin_popcountll(by_unit[w * args.n_units + u]);
    }
  }

  const T* values = static_cast<const T*>(args.values);
  T* sums = static_cast<T*>(args.sums);
  if (args.n_samples == 0) {
    for (std::int64_t k = 0; k < args.n_units * args.n_columns; ++k) sums[k] = T(0);
    return;
  }
  // A tile of columns at a time: long rows to write.
  const auto add_tile = [&](std::int64_t tile) {
    const std::int64_t first_column = tile * tile_width;
    const std::int64_t left = args.n_columns - first_column, width = left < tile_width ? left : tile_width;
    const runtime::Buffer<T> fields(block_units * tile_width), table(table_size<T>);
    for (std::int64_t first = 0; first < args.n_samples; first += max_samples) {
      const std::int64_t count = args.n_samples - first < max_samples ? args.n_samples - first : max_samples;
      const BitLayer<T> layer(count, width);
      for (std::int64_t strip = 0; strip < layer.n_strips; ++strip) {
        runtime::check_interrupt();
        T* rows = layer.block_rows(strip, 0);
        const std::int64_t filled = layer.width_of(strip);
        for (std::int64_t n = 0; n < layer.zero_row; ++n) {
          const T* x = values + (first + n) * args.n_columns + first_column + strip * full;
          for (std::int64_t l = 0; l < full; ++l) rows[n * full + l] = n < count && l < filled ? x[l] : T(0);
        }
      }
      for (std::int64_t unit = 0; unit < args.n_units; unit += block_units) {
        runtime::check_interrupt();
        const std::int64_t n = args.n_units - unit < block_units ? args.n_units - unit : block_units;
        const States units{by_unit.data() + first / word_bits * args.n_units + unit, n, 1, args.n_units};
        add_pairs(layer, 0, units, first > 0, fields.data(), table.data(), sums + unit * args.n_columns + first_column,
                  args.n_columns);
      }
    }
  };
  const double nanoseconds = static_cast<double>(args.n_samples) * static_cast<double>(args.n_units) *
                             static_cast<double>(args.n_columns) / 96.0;
  runtime::parallel_for(ceil_div(args.n_columns, tile_width), nanoseconds, args.num_threads, add_tile);
}

}  // namespace

void pair_sums(const PairSumsArgs& args) { args.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
