#include "anneal.hpp"

#include "bit_dot.hpp"
#include "gibbs_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t most_block_chains = 64;  // whose kept fields stay in a second-level cache
constexpr std::int64_t lanes = 8;
constexpr std::int64_t tiles_per_log = 512 / tile_width;  // factors are >= 1/2: a product of 512 is normal
constexpr double short_distance = 0.124;                  // below 1/8

// sum_j softplus(high x_j) - softplus(low x_j) of one chain, tile by tile.
struct SoftplusGrowth {
  double positive[lanes], product[lanes];
  double logs;

  VFE_HD void start() {
    for (std::int64_t l = 0; l < lanes; ++l) {
      positive[l] = 0;
      product[l] = 1;
    }
    logs = 0;
  }
  VFE_HD void take_log() {
    double all = 1;
    for (std::int64_t l = 0; l < lanes; ++l) {
      all *= product[l];
      product[l] = 1;
    }
    logs += numerics::log(all);
  }
  VFE_HD double value(double distance) {
    take_log();
    double sum = 0;
    for (std::int64_t l = 0; l < lanes; ++l) sum += positive[l];
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

// Adds a tile's units of all chains. Padding has fields of 0, which add nothing.
template <bool near>
VFE_HD void add_tile(const Units& units, const FieldsOfTile& found, std::int64_t n_chains, float low, float distance,
                     SoftplusGrowth* sums) {
  constexpr std::int64_t full = strip_width<std::int32_t>;
  static_assert(full == 2 * lanes);
  for (std::int64_t c = 0; c < n_chains; ++c) {
    SoftplusGrowth sum = sums[c];
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
    for (std::int64_t k = 0; k < tile_width; k += full) {
      for (std::int64_t l = 0; l < lanes; ++l) {  // two factors as one
        const float first = growth[k + l], second = growth[k + lanes + l];
        sum.product[l] *= 1.0 + static_cast<double>(first + second + first * second);
      }
    }
    for (std::int64_t l = 0; l < lanes; ++l) {
      sum.positive[l] += static_cast<double>(positive[l] + positive[l + lanes]);
    }
    sums[c] = sum;
  }
}

// Chains word first, so that loops run over the chains, and back.
void turn(const std::uint64_t* from, std::int64_t rows, std::int64_t columns, std::uint64_t* to) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
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
  const double nanoseconds =
      static_cast<double>(args.n_chains) * static_cast<double>(args.n_increments) * (n_weights / 128.0 + 2.0 * n_draws);
  const std::int64_t size = runtime::items_per_task(args.n_chains, most_block_chains, nanoseconds, args.num_threads);
  // Nothing may be left out of the sums that increments need, too: coarse ones serve the visible units alone.
  const CoarseLayer* coarse = nullptr;
  if (coarse_is_worth(size, args.n_chains, args.n_increments, args.prepared != nullptr)) {
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

  // Chains [first, first + n), all the way.
  const auto move_block = [&](std::int64_t first, std::int64_t n) {
    const runtime::Buffer<std::uint64_t> visible(visible_words * n), hidden(hidden_words * n);
    const runtime::Buffer<double> bias(rbm.n_visible);
    const runtime::Buffer<SoftplusGrowth> sums(n);
    turn(args.start + first * visible_words, n, visible_words, visible.data());
    const bool keep = n >= states_worth_groups;
    const auto visible_layer = [&](double s) {
      for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
        bias[i] = static_cast<double>(static_cast<float>(static_cast<double>(slope[i]) + args.base[i] / s));
      }
      return DrawnLayer(sweep.to_visible, Real::float64, bias.data());
    };
    DrawnFields hidden_fields(to_hidden_layer, nullptr, 0.0, n, keep);
    DrawnFields visible_fields(largest_layer, coarse, largest_s, n, keep);
    const States visible_states{visible.data(), n, 1, n}, hidden_states{hidden.data(), n, 1, n};

    for (std::int64_t k = 0; k < args.n_increments; ++k) {
      const double before = args.betas[k], after = args.betas[k + 1];
      const double low = before < after ? before : after, distance = (before < after ? after : before) - low;
      const double sign = before < after ? 1.0 : -1.0;
      const bool near = distance * largest <= short_distance, moves = k + 1 < args.n_increments || !args.stay;
      const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first),
                      static_cast<std::uint64_t>(args.first_step + k)};
      for (std::int64_t c = 0; c < n; ++c) sums[c].start();
      hidden_fields.start(visible_states);
      for (std::int64_t tile = 0; tile < hidden_words; ++tile) {
        runtime::check_interrupt();
        const FieldsOfTile found = hidden_fields.find(tile);
        const auto add = near ? add_tile<true> : add_tile<false>;
        add(Units(to_hidden_layer, tile), found, n, static_cast<float>(low), static_cast<float>(distance), sums.data());
        if ((tile + 1) % tiles_per_log == 0) {
          for (std::int64_t c = 0; c < n; ++c) sums[c].take_log();
        }
        if (!moves) continue;
        draw_tile(to_hidden_layer, tile, found, n, draw, &after, false,
                  [&](std::int64_t c, std::uint64_t state) { hidden[tile * n + c] = state; });
      }
      for (std::int64_t c = 0; c < n; ++c) {
        const double of_hidden = sums[c].value(distance);
        const double increment = sign * (distance * slope_dot.with(visible_states, c) + of_hidden);
        args.increments[k * args.n_chains + first + c] = increment;
        args.log_weights[first + c] += increment;
      }
      if (!moves) continue;
      const DrawnLayer layer = visible_layer(after);
      visible_fields.start(hidden_states);
      for (std::int64_t tile = 0; tile < visible_words; ++tile) {
        runtime::check_interrupt();
        draw_tile(layer, tile, visible_fields.find(tile), n, draw, &after, false,
                  [&](std::int64_t c, std::uint64_t state) { visible[tile * n + c] = state; });
      }
    }
    turn(visible.data(), visible_words, n, args.visible + first * visible_words);
  };

  runtime::parallel_for(ceil_div(args.n_chains, size), nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * size, left = args.n_chains - first;
    move_block(first, left < size ? left : size);
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
