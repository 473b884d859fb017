#include "gibbs.hpp"

#include "../numerics/bernoulli.hpp"
#include "../numerics/fixed_point.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::Stream;

constexpr std::int64_t block_chains = 256;  // their fields for one tile fill 64 kB
static_assert(tile_width == 4 * numerics::philox_lanes);

// One direction of the sweep: the weights into a layer, and where its random numbers come from.
struct HalfSweep {
  RbmView rbm;  // visible -> hidden is the direction
  BitLayer<std::int32_t> layer;
  runtime::Buffer<float> factor;  // beta / scale: from the integer field to the argument of the sigmoid
  Stream stream, tie_stream;

  HalfSweep(const RbmView& model, Stream draws, Stream ties)
      : rbm(model),
        layer(rbm.n_visible, rbm.n_hidden),
        factor(layer.n_tiles * tile_width),
        stream(draws),
        tie_stream(ties) {}
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

// Rounds the weights into one tile of units to fixed point.
template <class T>
void quantize_tile(HalfSweep& half, double beta, std::int64_t tile) {
  const RbmView& rbm = half.rbm;
  const std::int64_t first = tile * tile_width;
  const std::int64_t width = rbm.n_hidden - first < tile_width ? rbm.n_hidden - first : tile_width;
  const T* weights = static_cast<const T*>(rbm.weights) + first * rbm.hidden_stride;
  const T* bias = static_cast<const T*>(rbm.hidden_bias) + first;
  double total[tile_width] = {}, scale[tile_width] = {};
  if (rbm.hidden_stride == 1) {
    for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
      const T* row = weights + i * rbm.visible_stride;
      for (std::int64_t l = 0; l < width; ++l) total[l] += static_cast<double>(numerics::magnitude(row[l]));
    }
  } else {
    for (std::int64_t l = 0; l < width; ++l)
      total[l] = sum_of_magnitudes(weights + l * rbm.hidden_stride, rbm.n_visible);
  }
  for (std::int64_t l = 0; l < tile_width; ++l) {
    if (l < width) total[l] += static_cast<double>(numerics::magnitude(bias[l]));
    scale[l] = numerics::fixed_point_scale(total[l], rbm.n_visible + 1);
    // Kept finite, so that a field of 0 stays 0.
    const double factor = beta / scale[l];
    half.factor[first + l] = factor < 0x1p127 ? static_cast<float>(factor) : 0x1p127f;
  }
  fill_tile<T>(half.layer, rbm, tile,
               [&](T value, std::int64_t l) { return numerics::to_fixed_point(static_cast<double>(value), scale[l]); });
}

struct Draw {
  numerics::Key key;
  std::uint32_t chain;
  std::uint64_t step;
};

// The 64 random words of one tile: words[u] belongs to unit 64 tile + u.
VFE_HD void tile_words(const Draw& draw, Stream stream, std::int64_t tile, std::uint32_t (&words)[tile_width]) {
  const auto first_block = static_cast<std::uint32_t>(tile) * numerics::philox_lanes;
  numerics::draw_lanes(numerics::draw_counter(first_block, draw.chain, draw.step, stream), draw.key, words);
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

// The states of one tile's units, given their fields.
VFE_HD std::uint64_t decide(const HalfSweep& half, const Draw& draw, std::int64_t tile, const std::int32_t* field) {
  std::uint32_t words[tile_width];
  tile_words(draw, half.stream, tile, words);
  const float* factor = half.factor.data() + tile * tile_width;
  std::uint8_t on[tile_width], tie[tile_width];
  for (std::int64_t l = 0; l < tile_width; ++l) {
    const float x = static_cast<float>(field[l]) * factor[l];
    const std::int32_t threshold = numerics::minority_threshold(x).bits;
    const std::int32_t leading = numerics::leading_bits(words[l]);
    on[l] = (x >= 0.0f) != (leading < threshold);
    tie[l] = leading == threshold;
  }
  std::uint64_t bits = gather_bits(on);
  std::uint64_t ties = gather_bits(tie);
  if (ties != 0) [[unlikely]] {
    tile_words(draw, half.tie_stream, tile, words);
    for (; ties != 0; ties &= ties - 1) {
      const int l = __builtin_ctzll(ties);
      const float x = static_cast<float>(field[l]) * factor[l];
      const bool minority = numerics::minority_after_tie(numerics::minority_threshold(x), words[l]);
      const std::uint64_t bit = std::uint64_t{1} << l;
      bits = (x >= 0.0f) != minority ? bits | bit : bits & ~bit;
    }
  }
  const std::int64_t width = half.layer.n_out - tile * tile_width;
  return width < tile_width ? bits & ((std::uint64_t{1} << width) - 1) : bits;
}

}  // namespace

void gibbs(const GibbsArgs& args) {
  HalfSweep to_hidden(args.rbm, Stream::gibbs_hidden, Stream::gibbs_hidden_tie);
  HalfSweep to_visible(args.rbm.transposed(), Stream::gibbs_visible, Stream::gibbs_visible_tie);
  const auto quantize = [&](std::int64_t task) {
    const bool first_layer = task < to_hidden.layer.n_tiles;
    HalfSweep& half = first_layer ? to_hidden : to_visible;
    const std::int64_t tile = first_layer ? task : task - to_hidden.layer.n_tiles;
    args.rbm.real == Real::float32 ? quantize_tile<float>(half, args.beta, tile)
                                   : quantize_tile<double>(half, args.beta, tile);
  };
  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(args.rbm.n_hidden);
  runtime::parallel_for(to_hidden.layer.n_tiles + to_visible.layer.n_tiles, 4.0 * n_weights, args.num_threads,
                        quantize);

  const std::int64_t visible_words = words_for(args.rbm.n_visible), hidden_words = words_for(args.rbm.n_hidden);
  const numerics::Key key = numerics::key_from(args.seed);

  const std::int64_t fair_share = ceil_div(args.n_chains, args.num_threads);
  const std::int64_t block = fair_share < block_chains ? (fair_share > 0 ? fair_share : 1) : block_chains;
  const auto sweep_block = [&](std::int64_t task) {
    const std::int64_t first = task * block;
    const std::int64_t n_chains = args.n_chains - first < block ? args.n_chains - first : block;
    std::uint64_t* visible = args.visible + first * visible_words;
    std::uint64_t* hidden = args.hidden + first * hidden_words;
    const std::uint64_t* start = args.start + first * visible_words;
    const runtime::Buffer<std::int32_t> fields(n_chains * tile_width), table(table_size);

    const auto half_sweep = [&](const HalfSweep& half, const std::uint64_t* from, std::uint64_t* to,
                                std::uint64_t step) {
      for (std::int64_t tile = 0; tile < half.layer.n_tiles; ++tile) {
        runtime::check_interrupt();
        tile_fields(half.layer, tile, from, n_chains, fields.data(), table.data());
        for (std::int64_t c = 0; c < n_chains; ++c) {
          const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first + c), step};
          to[c * half.layer.n_tiles + tile] = decide(half, draw, tile, fields.data() + c * tile_width);
        }
      }
    };
    for (std::int64_t t = 0; t < args.n_steps; ++t) {
      const auto step = static_cast<std::uint64_t>(args.first_step + t);
      half_sweep(to_hidden, t == 0 ? start : visible, hidden, step);
      half_sweep(to_visible, hidden, visible, step);
    }
  };
  const double work = static_cast<double>(args.n_chains) * static_cast<double>(args.n_steps) *
                      (n_weights / 32.0 + static_cast<double>(args.rbm.n_visible + args.rbm.n_hidden) * 4.0);
  runtime::parallel_for(ceil_div(args.n_chains, block), work, args.num_threads, sweep_block);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
