// One step of block Gibbs sampling: the weights into each layer in fixed point, and how a tile of units is drawn.
// The law, its precision and its random numbers: gibbs.hpp.
#pragma once

#include "../numerics/bernoulli.hpp"
#include "../numerics/fixed_point.hpp"
#include "../runtime/cache.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

using numerics::Stream;

static_assert(tile_width == 4 * block_lanes);

// Where the draws of a layer's states come from.
struct DrawStreams {
  Stream draws, ties;
};
constexpr DrawStreams hidden_draws{Stream::gibbs_hidden, Stream::gibbs_hidden_tie};
constexpr DrawStreams visible_draws{Stream::gibbs_visible, Stream::gibbs_visible_tie};

// One direction of the sweep: the weights into a layer, and where its random numbers come from. Biases are added when
// units are drawn: they may change while the weights stay.
struct HalfSweep {
  BitLayer<std::int32_t> layer;
  runtime::Buffer<double> unit;  // 1 / scale of each output's weights; 0 for padding, whose fields are not written
  double largest = 0;            // no sum of weights is beyond it
  DrawStreams streams;

  HalfSweep(std::int64_t n_in, std::int64_t n_out, DrawStreams draws)
      : layer(n_in, n_out), unit(layer.n_tiles * tile_width), streams(draws) {
    for (std::int64_t j = 0; j < layer.n_tiles * tile_width; ++j) unit[j] = 0;
    for (std::int64_t j = 0; j < layer.n_strips * strip_width<std::int32_t>; ++j) layer.bias[j] = 0;
  }
};

// Rounds the weights of both directions to fixed point, each with the scales of its own outputs: one pass for the
// sums of magnitudes, one for the tables, in which a square of weights is turned while it is at hand.
template <class T>
struct Rounding {
  static constexpr std::int64_t full = strip_width<std::int32_t>, lanes = vector_width<T>, block_rows = 32;

  const RbmView rbm;  // whose weights lie row by row
  HalfSweep &to_columns, &to_rows;
  const std::int64_t n_rows, n_columns, n_blocks;
  const runtime::Buffer<double> of_columns;                 // (n_blocks, n_columns): sums over the rows of a block
  const runtime::Buffer<double> row_scales, column_scales;  // whole strips

  Rounding(const RbmView& view, HalfSweep& into_columns, HalfSweep& into_rows)
      : rbm(view),
        to_columns(into_columns),
        to_rows(into_rows),
        n_rows(view.n_visible),
        n_columns(view.n_hidden),
        n_blocks(ceil_div(n_rows, block_rows)),
        of_columns(n_blocks * n_columns),
        row_scales(into_rows.layer.n_strips * full),
        column_scales(into_columns.layer.n_strips * full) {}

  const T* row(std::int64_t i) const { return static_cast<const T*>(rbm.weights) + i * rbm.visible_stride; }

  std::int64_t most_tasks() const {
    const std::int64_t n = to_rows.layer.n_strips;
    return n_blocks > n ? n_blocks : n;
  }

  void share(runtime::Member& member) const {
    for (std::int64_t block; (block = member.next(n_blocks)) >= 0;) sum_rows(block);
    for (std::int64_t task; (task = member.next(1)) >= 0;) find_column_scales();
    for (std::int64_t strip; (strip = member.next(to_rows.layer.n_strips)) >= 0;) fill(strip);
  }

 private:
  void sum_rows(std::int64_t block) const {
    double* sums = of_columns.data() + block * n_columns;
    for (std::int64_t j = 0; j < n_columns; ++j) sums[j] = 0;
    for (std::int64_t i = block * block_rows; i < n_rows && i < (block + 1) * block_rows; ++i) {
      const T* weights = row(i);
      double of_lanes[full] = {}, sum = 0;
      std::int64_t j = 0;
      for (; j + full <= n_columns; j += full) {
        for (std::int64_t l = 0; l < full; ++l) {
          const auto size = static_cast<double>(numerics::magnitude(weights[j + l]));
          of_lanes[l] += size;
          sums[j + l] += size;
        }
      }
      for (; j < n_columns; ++j) {
        const auto size = static_cast<double>(numerics::magnitude(weights[j]));
        sum += size;
        sums[j] += size;
      }
      for (std::int64_t l = 0; l < full; ++l) sum += of_lanes[l];
      row_scales[i] = set_scale(to_rows, i, sum);
    }
  }

  void find_column_scales() const {
    for (std::int64_t j = 0; j < n_columns; ++j) {
      double sum = 0;
      for (std::int64_t block = 0; block < n_blocks; ++block) sum += of_columns[block * n_columns + j];
      column_scales[j] = set_scale(to_columns, j, sum);
    }
    for (std::int64_t i = n_rows; i < to_rows.layer.n_strips * full; ++i) row_scales[i] = 0;
    for (std::int64_t j = n_columns; j < to_columns.layer.n_strips * full; ++j) column_scales[j] = 0;
    find_largest(to_rows);
    find_largest(to_columns);
    const BitLayer<std::int32_t>& layer = to_columns.layer;
    for (std::int64_t strip = 0; strip < layer.n_strips; ++strip) clear(layer, strip);
  }

  // The rows of zeros behind a strip's inputs.
  static void clear(const BitLayer<std::int32_t>& layer, std::int64_t strip) {
    std::int32_t* rows = layer.block_rows(strip, 0);
    for (std::int64_t k = layer.n_in * full; k < (layer.zero_row + 1) * full; ++k) rows[k] = 0;
  }

  static void find_largest(HalfSweep& half) {
    for (std::int64_t j = 0; j < half.layer.n_out; ++j) {
      const double size = 0x1p30 * half.unit[j];
      half.largest = size > half.largest ? size : half.largest;
    }
  }

  // The scale of one output of `half`.
  static double set_scale(HalfSweep& half, std::int64_t output, double total) {
    const double scale = numerics::fixed_point_scale(total, half.layer.n_in);
    half.unit[output] = 1.0 / scale;
    return scale;
  }

  // Rows of `full` numbers, times a scale for each place.
  static void put(const T (&block)[full][full], const double* scales, std::int64_t count, std::int32_t* to) {
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t l = 0; l < full; ++l) {
        to[k * full + l] = numerics::to_fixed_point(static_cast<double>(block[k][l]), scales[l]);
      }
    }
  }

  void fill(std::int64_t strip) const {
    runtime::check_interrupt();
    const std::int64_t first = strip * full, height = to_rows.layer.width_of(strip);
    std::int32_t* turned = to_rows.layer.block_rows(strip, 0);
    for (std::int64_t j = 0; j < n_columns; j += full) {
      const std::int64_t left = n_columns - j, width = left < full ? left : full;
      alignas(strip_bytes) T block[full][full], columns[full][full];
      for (std::int64_t k = 0; k < full; ++k) {
        const T* weights = row(first + (k < height ? k : 0)) + j;
        if (k < height && width == full) {
          for (std::int64_t l = 0; l < full; ++l) block[k][l] = weights[l];
        } else {
          for (std::int64_t l = 0; l < full; ++l) block[k][l] = k < height && l < width ? weights[l] : T(0);
        }
      }
      for (std::int64_t k = 0; k < full; k += lanes) {
        for (std::int64_t l = 0; l < full; l += lanes) {
          Vector<T> square[lanes];
          for (std::int64_t m = 0; m < lanes; ++m) square[m] = *reinterpret_cast<const Vector<T>*>(&block[k + m][l]);
          transpose_square<T>(square);
          for (std::int64_t m = 0; m < lanes; ++m) *reinterpret_cast<Vector<T>*>(&columns[l + m][k]) = square[m];
        }
      }
      put(block, column_scales.data() + j, height, to_columns.layer.block_rows(j / full, 0) + first * full);
      put(columns, row_scales.data() + first, width, turned + j * full);
    }
    clear(to_rows.layer, strip);
  }
};

// Both directions, prepared once for any number of calls with the same weights.
struct Sweep {
  HalfSweep to_hidden, to_visible;

  // Memory, for `rounding` to fill.
  explicit Sweep(const RbmView& rbm)
      : to_hidden(rbm.n_visible, rbm.n_hidden, hidden_draws), to_visible(rbm.n_hidden, rbm.n_visible, visible_draws) {}

  template <class T>
  Rounding<T> rounding(const RbmView& rbm) {
    return rbm.hidden_stride == 1 ? Rounding<T>(rbm, to_hidden, to_visible)
                                  : Rounding<T>(rbm.transposed(), to_visible, to_hidden);
  }

  std::int64_t fewest_tiles() const {
    return to_hidden.layer.n_tiles < to_visible.layer.n_tiles ? to_hidden.layer.n_tiles : to_visible.layer.n_tiles;
  }
  std::int64_t most_tiles() const {
    return to_hidden.layer.n_tiles > to_visible.layer.n_tiles ? to_hidden.layer.n_tiles : to_visible.layer.n_tiles;
  }

  // That of a model's weights in the cache; made now if it is not there.
  static const Sweep& of(runtime::Cache& cache, const RbmView& rbm, int num_threads) {
    static constexpr char key = 0;  // its address names the entry, one for each instruction set
    const Model model{rbm, num_threads};
    return *static_cast<const Sweep*>(cache.of_weights().find_or_make(&key, make, destroy, &model));
  }

 private:
  struct Model {
    const RbmView& rbm;
    int num_threads;
  };
  static void* make(const void* context) {
    const auto& model = *static_cast<const Model*>(context);
    auto* sweep = new Sweep(model.rbm);
    try {
      model.rbm.real == Real::float32 ? round<float>(*sweep, model) : round<double>(*sweep, model);
    } catch (...) {
      delete sweep;
      throw;
    }
    return sweep;
  }
  template <class T>
  static void round(Sweep& sweep, const Model& model) {
    const Rounding<T> rounding = sweep.rounding<T>(model.rbm);
    const double nanoseconds = static_cast<double>(model.rbm.n_visible) * static_cast<double>(model.rbm.n_hidden);
    runtime::parallel_team(runtime::threads_worth(nanoseconds, model.num_threads), rounding.most_tasks(),
                           [&](runtime::Member& member) { rounding.share(member); });
  }
  static void destroy(void* sweep) { delete static_cast<Sweep*>(sweep); }
};

constexpr std::int64_t block_chains = 256;         // their fields for one strip fill 16 kB
constexpr std::int64_t chains_of_their_own = 256;  // below so many a thread, threads share the units instead
constexpr double nanoseconds_per_share = 3e3;      // of a half step, worth meeting the others

// sweep_block(first, n_chains, n_threads) for all chains, cut into blocks for one thread each; or for as many threads
// as are worth it together, if the chains are few. A step of all takes about of_step nanoseconds on one core.
template <class SweepBlock>
void each_block(std::int64_t n_chains, std::int64_t n_steps, double of_step, std::int64_t fewest_tiles, int num_threads,
                const SweepBlock& sweep_block) {
  const double nanoseconds = static_cast<double>(n_steps) * of_step;
  const std::int64_t n_threads = runtime::threads_worth(nanoseconds, num_threads);
  if (n_threads > 1 && n_chains < n_threads * chains_of_their_own) {
    const auto worth = static_cast<std::int64_t>(0.5 * of_step / nanoseconds_per_share);
    const std::int64_t most = worth < n_threads ? worth : n_threads;
    if (most > 1 && fewest_tiles >= 2 * most) return sweep_block(0, n_chains, most);
  }
  const std::int64_t block = runtime::items_per_task(n_chains, block_chains, nanoseconds, num_threads);
  runtime::parallel_for(ceil_div(n_chains, block), nanoseconds, num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * block;
    sweep_block(first, n_chains - first < block ? n_chains - first : block, std::int64_t{1});
  });
}

// A layer to be drawn: the weights into it, and its biases.
struct DrawnLayer {
  static constexpr double most = 0x1p100;  // of beta times a field: beyond, all decisions are the same

  const HalfSweep& half;
  const runtime::Buffer<double> bias;  // for whole tiles
  double largest = 0;                  // of the biases, without their signs

  DrawnLayer(const HalfSweep& weights, Real real, const void* biases)
      : half(weights), bias(weights.layer.n_tiles * tile_width) {
    for (std::int64_t j = 0; j < half.layer.n_tiles * tile_width; ++j) {
      bias[j] = j >= half.layer.n_out   ? 0.0
                : real == Real::float32 ? static_cast<double>(static_cast<const float*>(biases)[j])
                                        : static_cast<const double*>(biases)[j];
      const double size = numerics::magnitude(bias[j]);
      largest = size > largest ? size : largest;
    }
  }

  // x = field * factors + offsets is beta times the field of a unit of this tile, or, where that is beyond `most`,
  // as much smaller as keeps it in range.
  struct Scales {
    float factors[tile_width], offsets[tile_width];
  };
  VFE_HD void scales(double beta, std::int64_t tile, Scales& scales) const {
    const double *of_unit = half.unit.data() + tile * tile_width, *of_bias = bias.data() + tile * tile_width;
    if (beta * (half.largest + largest) < most) {
      for (std::int64_t l = 0; l < tile_width; ++l) scales.factors[l] = static_cast<float>(beta * of_unit[l]);
      for (std::int64_t l = 0; l < tile_width; ++l) scales.offsets[l] = static_cast<float>(beta * of_bias[l]);
      return;
    }
    for (std::int64_t l = 0; l < tile_width; ++l) {
      const double factor = beta * of_unit[l], offset = beta * of_bias[l];
      const double size = 0x1p30 * factor + numerics::magnitude(offset), shrink = size > most ? most / size : 1.0;
      scales.factors[l] = static_cast<float>(factor * shrink);
      scales.offsets[l] = static_cast<float>(offset * shrink);
    }
  }
};

struct Draw {
  numerics::Key key;
  std::uint32_t chain;
  std::uint64_t step;
};

// The random words of one tile for two chains: words[u] belongs to unit 64 tile + u.
VFE_HD void tile_words(const Draw& draw, Stream stream, std::int64_t tile, std::uint32_t (&words)[tile_width]) {
  const auto first_block = static_cast<std::uint32_t>(tile) * block_lanes;
  draw_lanes(numerics::draw_counter(first_block, draw.chain / 2, draw.step, stream), draw.key, words);
}

// Bytes 0 or 1 to bits: the product gathers the eight bytes of a word in its top byte.
VFE_HD std::uint64_t gather_bits(const std::uint8_t (&flags)[tile_width]) {
  std::uint64_t bits = 0;
  for (int k = 0; k < 8; ++k) {
    std::uint64_t eight = 0;
    __builtin_memcpy(&eight, flags + 8 * k, 8);
    bits |= ((eight * 0x0102040810204080u) >> 56) << (8 * k);
  }
  return bits;
}

// The states of one tile's units, of which the layer has n_out, given beta times their fields, and random words.
VFE_HD std::uint64_t decide(const float (&x)[tile_width], const Draw& draw, DrawStreams streams, std::int64_t tile,
                            std::int64_t n_out, const std::uint32_t (&words)[tile_width]) {
  std::uint8_t on[tile_width], tie[tile_width];
  for (std::int64_t l = 0; l < tile_width; ++l) {
    const std::int32_t threshold = numerics::minority_threshold(x[l]).bits;
    const std::int32_t leading = numerics::leading_bits(words[l], draw.chain);
    on[l] = (x[l] >= 0.0f) != (leading < threshold);
    tie[l] = leading == threshold;
  }
  std::uint64_t bits = gather_bits(on);
  for (std::uint64_t ties = gather_bits(tie); ties != 0; ties &= ties - 1) {
    const int l = __builtin_ctzll(ties);
    const auto unit = static_cast<std::uint32_t>(tile * tile_width + l);
    const numerics::Words4 further =
        numerics::philox4x32(numerics::draw_counter(unit, draw.chain, draw.step, streams.ties), draw.key);
    const bool minority =
        numerics::minority_after_tie(numerics::minority_threshold(x[l]), further.word[0], further.word[1]);
    const std::uint64_t bit = std::uint64_t{1} << l;
    bits = (x[l] >= 0.0f) != minority ? bits | bit : bits & ~bit;
  }
  const std::int64_t width = n_out - tile * tile_width;
  return width < tile_width ? bits & ((std::uint64_t{1} << width) - 1) : bits;
}

// The fields of a tile's units, as TileFields leaves them: (strips of the tile, n_states, strip_width).
struct FieldsOfTile {
  const std::int32_t* of_first;  // state that is drawn
  std::int64_t n_states;
};

// Draws one tile's units for each of n_chains chains, the first of which is that of `draw`, at one beta or one a
// chain; put(c, bits) takes what is drawn.
template <class Put>
VFE_HD void draw_tile(const DrawnLayer& to, std::int64_t tile, const FieldsOfTile& fields, std::int64_t n_chains,
                      Draw draw, const double* beta, bool beta_of_each, const Put& put) {
  constexpr std::int64_t full = strip_width<std::int32_t>;
  DrawnLayer::Scales scales;
  std::uint32_t words[tile_width];
  to.scales(beta[0], tile, scales);
  for (std::int64_t c = 0; c < n_chains; ++c, ++draw.chain) {
    if (c == 0 || draw.chain % 2 == 0) tile_words(draw, to.half.streams.draws, tile, words);
    if (beta_of_each) to.scales(beta[c], tile, scales);
    const std::int32_t* field = fields.of_first + c * full;
    float x[tile_width];
    for (std::int64_t k = 0; k < tile_width; k += full) {
      for (std::int64_t l = 0; l < full; ++l) {
        x[k + l] = static_cast<float>(field[k * fields.n_states + l]) * scales.factors[k + l] + scales.offsets[k + l];
      }
    }
    put(c, decide(x, draw, to.half.streams, tile, to.half.layer.n_out, words));
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
