#include "gibbs.hpp"

#include "../numerics/bernoulli.hpp"
#include "../numerics/fixed_point.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::Stream;

constexpr std::int64_t block_chains = 256;         // their fields for one strip fill 16 kB
constexpr std::int64_t chains_of_their_own = 256;  // below so many a thread, threads share the units instead
constexpr double nanoseconds_per_share = 3e3;      // of a half step, worth meeting the others
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
    for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
      const T* row = weights + i * rbm.visible_stride;
      for (std::int64_t l = 0; l < width; ++l) total[l] += static_cast<double>(numerics::magnitude(row[l]));
    }
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

  static void* make(const void* context) {
    const auto& args = *static_cast<const GibbsArgs*>(context);
    return new Sweep(args.rbm, args.num_threads);
  }
  static void destroy(void* sweep) { delete static_cast<Sweep*>(sweep); }
};

constexpr char sweep_key = 0;  // its address names the entry, one for each instruction set

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

}  // namespace

void gibbs(const GibbsArgs& args) {
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const Sweep& sweep = *static_cast<const Sweep*>(cache.find_or_make(&sweep_key, Sweep::make, Sweep::destroy, &args));
  const std::int64_t visible_words = words_for(args.rbm.n_visible), hidden_words = words_for(args.rbm.n_hidden);
  const numerics::Key key = numerics::key_from(args.seed);

  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(args.rbm.n_hidden);
  const double n_draws = static_cast<double>(args.rbm.n_visible + args.rbm.n_hidden);
  const double weights_per_nanosecond = args.n_chains < states_worth_pairs ? 12.0 : 64.0;
  const double of_step = static_cast<double>(args.n_chains) * (n_weights / weights_per_nanosecond + 2.0 * n_draws);
  const double nanoseconds = static_cast<double>(args.n_steps) * of_step;

  // Chains [first, first + n_chains) by threads that share the tiles of each half step.
  const auto sweep_block = [&](std::int64_t first, std::int64_t n_chains, std::int64_t n_threads) {
    // Here word first: the loops run over the chains.
    const runtime::Buffer<std::uint64_t> visible(visible_words * n_chains), hidden(hidden_words * n_chains);
    for (std::int64_t c = 0; c < n_chains; ++c) {
      for (std::int64_t w = 0; w < visible_words; ++w) {
        visible[w * n_chains + c] = args.start[(first + c) * visible_words + w];
      }
    }
    const auto share_steps = [&](runtime::Member& member) {
      const runtime::Buffer<std::int32_t> fields(n_chains * tile_width);
      for (std::int64_t k = 0; k < n_chains * tile_width; ++k) fields[k] = 0;  // padding keeps it
      TileFields<std::int32_t> to_hidden(sweep.to_hidden.layer, n_chains), to_visible(sweep.to_visible.layer, n_chains);
      const auto half_sweep = [&](const HalfSweep& half, TileFields<std::int32_t>& tile_fields,
                                  const std::uint64_t* from, std::uint64_t* to, std::uint64_t step, bool may_clamp) {
        tile_fields.start({from, n_chains, 1, n_chains});
        for (std::int64_t tile; (tile = member.next(half.layer.n_tiles)) >= 0;) {
          runtime::check_interrupt();
          tile_fields.find(tile, fields.data());
          float factors[tile_width];
          tile_factors(half, args.beta[0], tile, factors);
          std::uint32_t words[tile_width];
          for (std::int64_t c = 0; c < n_chains; ++c) {
            const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first + c), step};
            if (c == 0 || draw.chain % 2 == 0) tile_words(draw, half.stream, tile, words);
            if (args.n_betas > 1) tile_factors(half, args.beta[first + c], tile, factors);
            const std::int32_t* field = fields.data() + c * strip_width<std::int32_t>;
            std::uint64_t state = decide(half, factors, draw, tile, words, field, n_chains);
            if (may_clamp && args.clamped != nullptr) {
              const std::uint64_t kept = args.clamped[(args.n_clamped > 1 ? first + c : 0) * visible_words + tile];
              state = (state & ~kept) | (args.start[(first + c) * visible_words + tile] & kept);
            }
            to[tile * n_chains + c] = state;
          }
        }
      };
      for (std::int64_t t = 0; t < args.n_steps; ++t) {
        const auto step = static_cast<std::uint64_t>(args.first_step + t);
        half_sweep(sweep.to_hidden, to_hidden, visible.data(), hidden.data(), step, false);
        half_sweep(sweep.to_visible, to_visible, hidden.data(), visible.data(), step, true);
      }
    };
    runtime::parallel_team(n_threads, sweep.most_tiles(), share_steps);
    for (std::int64_t c = 0; c < n_chains; ++c) {
      for (std::int64_t w = 0; w < visible_words; ++w) {
        args.visible[(first + c) * visible_words + w] = visible[w * n_chains + c];
      }
      for (std::int64_t w = 0; w < hidden_words; ++w) {
        args.hidden[(first + c) * hidden_words + w] = hidden[w * n_chains + c];
      }
    }
  };

  const std::int64_t n_threads = runtime::threads_worth(nanoseconds, args.num_threads);
  if (n_threads > 1 && args.n_chains < n_threads * chains_of_their_own) {
    const auto worth = static_cast<std::int64_t>(0.5 * of_step / nanoseconds_per_share);
    const std::int64_t most = worth < n_threads ? worth : n_threads;
    if (most > 1 && sweep.fewest_tiles() >= 2 * most) return sweep_block(0, args.n_chains, most);
  }
  const std::int64_t block = runtime::items_per_task(args.n_chains, block_chains, nanoseconds, args.num_threads);
  runtime::parallel_for(ceil_div(args.n_chains, block), nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * block;
    sweep_block(first, args.n_chains - first < block ? args.n_chains - first : block, 1);
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
