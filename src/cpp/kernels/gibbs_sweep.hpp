// One step of block Gibbs sampling: the weights into each layer in fixed point, and how a tile of units is drawn.
// The law, its precision and its random numbers: gibbs.hpp.
#pragma once

#include "../numerics/bernoulli.hpp"
#include "../numerics/fixed_point.hpp"
#include "../runtime/cache.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

using numerics::Stream;

static_assert(tile_width == 4 * numerics::philox_lanes);

// One direction of the sweep: the weights into a layer, and where its random numbers come from.
struct HalfSweep {
  BitLayer<std::int32_t> layer;
  runtime::Buffer<double> unit;  // 1 / scale of each output's weights; 0 for padding, whose fields are not written
  Stream stream, tie_stream;

  HalfSweep(std::int64_t n_in, std::int64_t n_out, Stream draws, Stream ties)
      : layer(n_in, n_out), unit(layer.n_tiles * tile_width), stream(draws), tie_stream(ties) {
    for (std::int64_t j = 0; j < layer.n_tiles * tile_width; ++j) unit[j] = 0;
  }
};

template <class T>
VFE_HD double sum_of_magnitudes(const T* values, std::int64_t count) {
  constexpr std::int64_t lanes = 8;
  double sums[lanes] = {}, sum = 0;
  std::int64_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    for (std::int64_t l = 0; l < lanes; ++l) sums[l] += static_cast<double>(numerics::magnitude(values[k + l]));
  }
  for (; k < count; ++k) sum += static_cast<double>(numerics::magnitude(values[k]));
  for (std::int64_t l = 0; l < lanes; ++l) sum += sums[l];
  return sum;
}

// Rounds the weights into one strip of units to fixed point.
template <class T>
void quantize_strip(HalfSweep& half, const RbmView& rbm, std::int64_t strip) {
  constexpr std::int64_t full = strip_width<std::int32_t>;
  const std::int64_t first = strip * full, width = half.layer.width_of(strip);
  const T* weights = static_cast<const T*>(rbm.weights) + first * rbm.hidden_stride;
  const T* bias = static_cast<const T*>(rbm.hidden_bias) + first;
  double total[full] = {};
  double scale[full];
  if (rbm.hidden_stride == 1) {
    for_width<std::int32_t>(width, [&](auto known_width) {
      double sum[full] = {};
      for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
        const T* row = weights + i * rbm.visible_stride;
        for (std::int64_t l = 0; l < known_width; ++l) sum[l] += static_cast<double>(numerics::magnitude(row[l]));
      }
      for (std::int64_t l = 0; l < full; ++l) total[l] = sum[l];
    });
  } else {
    for (std::int64_t l = 0; l < width; ++l)
      total[l] = sum_of_magnitudes(weights + l * rbm.hidden_stride, rbm.n_visible);
  }
  for (std::int64_t l = 0; l < full; ++l) {
    if (l < width) total[l] += static_cast<double>(numerics::magnitude(bias[l]));
    scale[l] = numerics::fixed_point_scale(total[l], rbm.n_visible + 1);
    half.unit[first + l] = 1.0 / scale[l];
  }
  fill_strip<T>(half.layer, rbm, strip, [&](T value, std::int64_t l) {
    return numerics::to_fixed_point(static_cast<double>(value), scale[l]);
  });
}

// Both directions, prepared once for any number of calls with the same parameters.
struct Sweep {
  HalfSweep to_hidden, to_visible;

  Sweep(const RbmView& rbm, int num_threads)
      : to_hidden(rbm.n_visible, rbm.n_hidden, Stream::gibbs_hidden, Stream::gibbs_hidden_tie),
        to_visible(rbm.n_hidden, rbm.n_visible, Stream::gibbs_visible, Stream::gibbs_visible_tie) {
    const auto quantize = [&](std::int64_t task) {
      const bool first_layer = task < to_hidden.layer.n_strips;
      HalfSweep& half = first_layer ? to_hidden : to_visible;
      const RbmView direction = first_layer ? rbm : rbm.transposed();
      const std::int64_t strip = first_layer ? task : task - to_hidden.layer.n_strips;
      rbm.real == Real::float32 ? quantize_strip<float>(half, direction, strip)
                                : quantize_strip<double>(half, direction, strip);
    };
    const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
    runtime::parallel_for(to_hidden.layer.n_strips + to_visible.layer.n_strips, 4.0 * n_weights, num_threads, quantize);
  }

  std::int64_t fewest_tiles() const {
    return to_hidden.layer.n_tiles < to_visible.layer.n_tiles ? to_hidden.layer.n_tiles : to_visible.layer.n_tiles;
  }
  std::int64_t most_tiles() const {
    return to_hidden.layer.n_tiles > to_visible.layer.n_tiles ? to_hidden.layer.n_tiles : to_visible.layer.n_tiles;
  }

  // That of a model's parameters in the cache; made now if it is not there.
  static const Sweep& of(runtime::Cache& cache, const RbmView& rbm, int num_threads) {
    static constexpr char key = 0;  // its address names the entry, one for each instruction set
    const Model model{rbm, num_threads};
    return *static_cast<const Sweep*>(cache.find_or_make(&key, make, destroy, &model));
  }

 private:
  struct Model {
    const RbmView& rbm;
    int num_threads;
  };
  static void* make(const void* context) {
    const auto& model = *static_cast<const Model*>(context);
    return new Sweep(model.rbm, model.num_threads);
  }
  static void destroy(void* sweep) { delete static_cast<Sweep*>(sweep); }
};

// beta / scale, from the integer field to the argument of the sigmoid, for the units of one tile. Kept finite, so
// that 0 stays 0.
VFE_HD void tile_factors(const HalfSweep& half, double beta, std::int64_t tile, float (&factors)[tile_width]) {
  const double* unit = half.unit.data() + tile * tile_width;
  for (std::int64_t l = 0; l < tile_width; ++l) {
    const double factor = beta * unit[l];
    factors[l] = static_cast<float>(factor < 0x1p127 ? factor : 0x1p127);
  }
}

struct Draw {
  numerics::Key key;
  std::uint32_t chain;
  std::uint64_t step;
};

// The random words of one tile for two chains: words[u] belongs to unit 64 tile + u.
VFE_HD void tile_words(const Draw& draw, Stream stream, std::int64_t tile, std::uint32_t (&words)[tile_width]) {
  const auto first_block = static_cast<std::uint32_t>(tile) * numerics::philox_lanes;
  numerics::draw_lanes(numerics::draw_counter(first_block, draw.chain / 2, draw.step, stream), draw.key, words);
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

// The states of one tile's units, given their fields, (strips of the tile, n_chains, strip_width), and random words.
VFE_HD std::uint64_t decide(const HalfSweep& half, const float (&factor)[tile_width], const Draw& draw,
                            std::int64_t tile, const std::uint32_t (&words)[tile_width], const std::int32_t* fields,
                            std::int64_t n_chains) {
  constexpr std::int64_t full = strip_width<std::int32_t>;
  float x[tile_width];
  for (std::int64_t k = 0; k < tile_width; k += full) {
    for (std::int64_t l = 0; l < full; ++l) x[k + l] = static_cast<float>(fields[k * n_chains + l]) * factor[k + l];
  }
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
        numerics::philox4x32(numerics::draw_counter(unit, draw.chain, draw.step, half.tie_stream), draw.key);
    const bool minority =
        numerics::minority_after_tie(numerics::minority_threshold(x[l]), further.word[0], further.word[1]);
    const std::uint64_t bit = std::uint64_t{1} << l;
    bits = (x[l] >= 0.0f) != minority ? bits | bit : bits & ~bit;
  }
  const std::int64_t width = half.layer.n_out - tile * tile_width;
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
VFE_HD void draw_tile(const HalfSweep& half, std::int64_t tile, const FieldsOfTile& fields, std::int64_t n_chains,
                      Draw draw, const double* beta, bool beta_of_each, const Put& put) {
  float factors[tile_width];
  std::uint32_t words[tile_width];
  tile_factors(half, beta[0], tile, factors);
  for (std::int64_t c = 0; c < n_chains; ++c, ++draw.chain) {
    if (c == 0 || draw.chain % 2 == 0) tile_words(draw, half.stream, tile, words);
    if (beta_of_each) tile_factors(half, beta[c], tile, factors);
    const std::int32_t* field = fields.of_first + c * strip_width<std::int32_t>;
    put(c, decide(half, factors, draw, tile, words, field, fields.n_states));
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
