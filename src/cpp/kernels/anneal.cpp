#include "anneal.hpp"

#include "bit_dot.hpp"
#include "gibbs_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t most_block_chains = 128;           // of one thread: kept fields stay in its second-level cache
constexpr std::int64_t tiles_per_log = 512 / tile_width;  // factors are >= 1/2: a product of 512 is normal
constexpr double short_distance = 0.124;                  // below 1/8

// What sum_j softplus(high x_j) - softplus(low x_j) is of, for each tile and chain: (high - low) positive + ln product.
struct SoftplusGrowth {
  std::int64_t n_tiles, n_chains;
  runtime::Buffer<double> positive, product;  // (n_tiles, n_chains)

  SoftplusGrowth(std::int64_t tiles, std::int64_t chains)
      : n_tiles(tiles), n_chains(chains), positive(tiles * chains), product(tiles * chains) {}

  VFE_HD double sum(std::int64_t chain, double distance) const {
    double sum = 0, logs = 0, factors = 1;
    for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
      sum += positive[tile * n_chains + chain];
      factors *= product[tile * n_chains + chain];
      if ((tile + 1) % tiles_per_log != 0 && tile + 1 < n_tiles) continue;
      logs += numerics::log(factors);
      factors = 1;
    }
    return distance * sum + logs;
  }
};

// e^-y - 1 for 0 <= y, by a polynomial where y <= 1/8.
template <bool near>
VFE_HD float decay(float y) {
  if constexpr (!near) return numerics::expm1(-y);
  return -(y * (1.0f - y * (0.5f - y * (0x1.555556p-3f - y * (0x1.555556p-5f - y * 0x1.111112p-7f)))));
}

// The units of a tile, in float32.
struct Units {
  float factor[tile_width], bias[tile_width];

  Units(const DrawnLayer& layer, std::int64_t tile) {
    for (std::int64_t l = 0; l < tile_width; ++l) {
      factor[l] = static_cast<float>(layer.half.unit[tile * tile_width + l]);
      bias[l] = static_cast<float>(layer.bias[tile * tile_width + l]);
    }
  }
};

// Sums and products of a tile's units, for all chains. Padding has fields of 0, which add nothing.
template <bool near>
VFE_HD void put_tile(const Units& units, const FieldsOfTile& found, std::int64_t n_chains, float low, float distance,
                     double* positives, double* products) {
  constexpr std::int64_t full = strip_width<std::int32_t>, lanes = full / 2;
  for (std::int64_t c = 0; c < n_chains; ++c) {
    float positive[full] = {};
    alignas(64) float growth[tile_width];
    for (std::int64_t k = 0; k < tile_width; k += full) {
      const std::int32_t* field = found.fields + c * full + k * found.n_states;
      for (std::int64_t l = 0; l < full; ++l) {
        const float x = static_cast<float>(field[l]) * units.factor[k + l] + units.bias[k + l];
        const float size = numerics::magnitude(x), e = numerics::exp_negative(-low * size);
        positive[l] += x > 0.0f ? x : 0.0f;
        growth[k + l] = e / (1.0f + e) * decay<near>(distance * size);
      }
    }
    double product[lanes], sum[lanes];
    for (std::int64_t l = 0; l < lanes; ++l) {
      product[l] = 1;
      sum[l] = static_cast<double>(positive[l] + positive[l + lanes]);
    }
    for (std::int64_t k = 0; k < tile_width; k += full) {
      for (std::int64_t l = 0; l < lanes; ++l) {  // two factors as one
        const float first = growth[k + l], second = growth[k + lanes + l];
        product[l] *= 1.0 + static_cast<double>(first + second + first * second);
      }
    }
    for (std::int64_t half = lanes / 2; half > 0; half /= 2) {
      for (std::int64_t l = 0; l < half; ++l) {
        product[l] *= product[l + half];
        sum[l] += sum[l + half];
      }
    }
    positives[c] = sum[0];
    products[c] = product[0];
  }
}

}  // namespace

void anneal(const AnnealArgs& args) {
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const RbmView& rbm = args.rbm;
  const Sweep& sweep = Sweep::of(cache, rbm, args.num_threads);
  const DrawnLayer to_hidden_layer(sweep.to_hidden, rbm.real, rbm.hidden_bias);
  const auto* slope = static_cast<const float*>(rbm.visible_bias);
  const BitDot slope_dot(slope, rbm.n_visible);
  const std::int64_t visible_words = words_for(rbm.n_visible), hidden_words = words_for(rbm.n_hidden);
  const numerics::Key key = numerics::key_from(args.seed);
  const double largest = (sweep.to_hidden.largest + to_hidden_layer.largest) * 1.001;

  const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
  const double n_draws = static_cast<double>(rbm.n_visible + 2 * rbm.n_hidden);
  const ChainBlocks blocks(args.n_chains, args.n_increments,
                           static_cast<double>(args.n_chains) * (n_weights / 128.0 + 2.0 * n_draws),
                           sweep.fewest_tiles(), args.num_threads, most_block_chains);
  // Nothing may be left out of the sums that increments need, too: coarse ones serve the visible units alone.
  const CoarseLayer* coarse = nullptr;
  if (coarse_is_worth(blocks.size, args.n_chains, args.n_increments, args.prepared != nullptr)) {
    coarse = &CoarseSweep::of(cache, sweep, args.num_threads).to_visible;
  }
  // Visible units whose fields are no smaller than those at any s: |s c + a_0| <= s_max (|c| + |a_0| / s_max).
  double largest_s = 0;
  for (std::int64_t k = 0; k <= args.n_increments; ++k)
    largest_s = args.betas[k] > largest_s ? args.betas[k] : largest_s;
  const runtime::Buffer<double> bound(rbm.n_visible);
  for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
    bound[i] = numerics::magnitude(static_cast<double>(slope[i])) + numerics::magnitude(args.base[i]) / largest_s;
  }
  const DrawnLayer largest_layer(sweep.to_visible, Real::float64, bound.data());

  // Chains [first, first + n), all the way, by threads that share the tiles of each half step.
  const auto move_block = [&](std::int64_t first, std::int64_t n, std::int64_t n_threads) {
    const bool keep = fields_worth_keeping(n, n_threads);
    const FieldsOfLayer of_hidden(to_hidden_layer, nullptr, 0.0, n, keep);
    const FieldsOfLayer of_visible(largest_layer, coarse, largest_s, n, keep);
    StepStates visible(visible_words, n, of_hidden.keeps), hidden(hidden_words, n, of_visible.keeps);
    visible.take(args.start + first * visible_words);
    SoftplusGrowth growth(hidden_words, n);
    const runtime::Buffer<double> slopes(n);

    const auto share = [&](runtime::Member& member) {
      DrawnFields hidden_fields(of_hidden), visible_fields(of_visible);
      const runtime::Buffer<double> bias(rbm.n_visible);
      const auto visible_layer = [&](double s) {
        for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
          bias[i] = static_cast<double>(static_cast<float>(static_cast<double>(slope[i]) + args.base[i] / s));
        }
        return DrawnLayer(sweep.to_visible, Real::float64, bias.data());
      };
      for (std::int64_t k = 0; k < args.n_increments; ++k) {
        const double before = args.betas[k], after = args.betas[k + 1];
        const double low = before < after ? before : after, distance = (before < after ? after : before) - low;
        const double sign = before < after ? 1.0 : -1.0;
        const bool near = distance * largest <= short_distance, moves = k + 1 < args.n_increments || !args.stay;
        const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first),
                        static_cast<std::uint64_t>(args.first_step + k)};
        hidden_fields.start(visible.at(k), visible.before(k));
        for (std::int64_t tile; (tile = member.next(hidden_words + 1)) >= 0;) {
          runtime::check_interrupt();
          if (tile == hidden_words) {
            for (std::int64_t c = 0; c < n; ++c) slopes[c] = slope_dot.with(visible.at(k), c);
            continue;
          }
          const FieldsOfTile found = hidden_fields.find(tile);
          const auto put = near ? put_tile<true> : put_tile<false>;
          put(Units(to_hidden_layer, tile), found, n, static_cast<float>(low), static_cast<float>(distance),
              growth.positive.data() + tile * n, growth.product.data() + tile * n);
          if (!moves) continue;
          draw_tile(to_hidden_layer, tile, found, n, draw, &after, false,
                    [&](std::int64_t c, std::uint64_t state) { hidden.words(k)[tile * n + c] = state; });
        }
        const DrawnLayer layer = visible_layer(moves ? after : largest_s);
        const std::int64_t n_drawn = moves ? visible_words : 0;
        visible_fields.start(hidden.at(k), hidden.before(k));
        for (std::int64_t tile; (tile = member.next(n_drawn + 1)) >= 0;) {
          runtime::check_interrupt();
          if (tile == n_drawn) {
            for (std::int64_t c = 0; c < n; ++c) {
              const double increment = sign * (distance * slopes[c] + growth.sum(c, distance));
              args.increments[k * args.n_chains + first + c] = increment;
              args.log_weights[first + c] += increment;
            }
            continue;
          }
          draw_tile(layer, tile, visible_fields.find(tile), n, draw, &after, false,
                    [&](std::int64_t c, std::uint64_t state) { visible.words(k + 1)[tile * n + c] = state; });
        }
      }
    };
    runtime::parallel_team(n_threads, (hidden_words > visible_words ? hidden_words : visible_words) + 1, share);
    visible.give(args.stay ? args.n_increments - 1 : args.n_increments, args.visible + first * visible_words);
  };

  blocks.each(move_block);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
