#include "pair_sums.hpp"

#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t block_units = 256;      // whose sums for one strip fill 16 kB
constexpr std::int64_t max_samples = 1 << 11;  // whose rows, 512 kB, are added up at a time

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

// A unit's states in all samples, word first: (words of n_samples, n_units).
void transpose(const PairSumsArgs& args, std::uint64_t* by_unit) {
  const std::int64_t words = words_for(args.n_units);
  for (std::int64_t block = 0; block < words_for(args.n_samples); ++block) {
    const std::int64_t first = block * word_bits;
    for (std::int64_t w = 0; w < words; ++w) {
      std::uint64_t bits[word_bits];
      for (std::int64_t k = 0; k < word_bits; ++k) {
        bits[k] = first + k < args.n_samples ? args.states[(first + k) * words + w] : 0;
      }
      transpose_bits(bits);
      const std::int64_t width = args.n_units - w * word_bits < word_bits ? args.n_units - w * word_bits : word_bits;
      for (std::int64_t k = 0; k < width; ++k) by_unit[block * args.n_units + w * word_bits + k] = bits[k];
    }
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

template <class T>
void run(const PairSumsArgs& args) {
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t n_words = words_for(args.n_samples);
  const runtime::Buffer<std::uint64_t> by_unit(n_words * args.n_units);
  transpose(args, by_unit.data());
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
        const auto add = n >= states_worth_groups ? add_tables<4, T> : add_tables<2, T>;
        T* out = sums + unit * args.n_columns + first_column;
        const auto each_strip = [&](const auto& body) {
          for (std::int64_t s = 0; s < n; ++s) {
            for (std::int64_t strip = 0; strip < layer.n_strips; ++strip) {
              T* sum = out + s * args.n_columns + strip * full;
              body(sum, fields.data() + (strip * n + s) * full, layer.width_of(strip));
            }
          }
        };
        if (first > 0) {
          each_strip([](const T* sum, T* field, std::int64_t filled) { copy_strip(sum, field, filled); });
        } else {
          for (std::int64_t k = 0; k < layer.n_strips * n * full; ++k) fields[k] = T(0);
        }
        for (std::int64_t strip = 0; strip < layer.n_strips; ++strip) {
          add(layer, strip, units, fields.data() + strip * n * full, table.data());
        }
        each_strip([](T* sum, const T* field, std::int64_t filled) { copy_strip(field, sum, filled); });
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
