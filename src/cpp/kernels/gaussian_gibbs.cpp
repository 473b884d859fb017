#include "gaussian_gibbs.hpp"

#include <atomic>

#include "gaussian_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

// Whether the first `width` values are finite.
template <class T>
VFE_HD bool all_finite(const T (&values)[tile_width], std::int64_t width) {
  std::int32_t bad = 0;
  for (std::int64_t l = 0; l < tile_width; ++l) {
    bad |= l >= width || numerics::magnitude(values[l]) <= std::numeric_limits<T>::max() ? 0 : 1;
  }
  return bad == 0;
}

template <class T>
void run(const GaussianGibbsArgs& args) {
  runtime::Cache used_once;
  const auto& sweep =
      GaussianSweep<T>::of(args.prepared != nullptr ? *args.prepared : used_once, args.rbm, args.num_threads);
  const std::int64_t n_visible = args.rbm.n_visible, n_hidden = args.rbm.n_hidden;
  const std::int64_t visible_words = words_for(n_visible), hidden_words = words_for(n_hidden);
  const std::int64_t n_visible_tiles = sweep.to_visible.n_tiles, n_hidden_tiles = sweep.to_hidden.n_tiles;
  const numerics::Key key = numerics::key_from(args.seed);
  const T* start = static_cast<const T*>(args.start);
  T* out = static_cast<T*>(args.visible);
  const std::atomic_ref<bool> overflowed(*args.overflowed);
  overflowed = false;

  // For whole tiles: padding has zeros.
  const runtime::Buffer<T> visible_bias(n_visible_tiles * tile_width), hidden_bias(n_hidden_tiles * tile_width);
  const runtime::Buffer<T> sigma(n_visible_tiles * tile_width), precision(n_visible_tiles * tile_width);
  pad(static_cast<const T*>(args.rbm.visible_bias), n_visible, n_visible_tiles * tile_width, visible_bias);
  pad(static_cast<const T*>(args.rbm.hidden_bias), n_hidden, n_hidden_tiles * tile_width, hidden_bias);
  pad(static_cast<const T*>(args.sigma), n_visible, n_visible_tiles * tile_width, sigma);
  for (std::int64_t i = 0; i < n_visible_tiles * tile_width; ++i) {
    precision[i] = i < n_visible ? T(1) / (sigma[i] * sigma[i]) : T(0);
  }

  const auto sweep_block = [&](std::int64_t first, std::int64_t n_chains, std::int64_t n_threads) {
    const std::int64_t stride = n_visible_tiles * tile_width;
    const runtime::Buffer<T> scaled(n_chains * stride);  // v_i / sigma_i^2
    const runtime::Buffer<std::uint64_t> hidden(hidden_words * n_chains);
    for (std::int64_t c = 0; c < n_chains; ++c) {
      const T* from = start + (first + c) * n_visible;
      for (std::int64_t i = 0; i < n_visible; ++i) scaled[c * stride + i] = from[i] * precision[i];
    }
    const double* beta = args.n_betas > 1 ? args.beta + first : args.beta;
    const auto beta_of = [&](std::int64_t c) { return beta[args.n_betas > 1 ? c : 0]; };

    const auto share_steps = [&](runtime::Member& member) {
      const runtime::Buffer<T> fields(n_chains * tile_width);
      for (std::int64_t k = 0; k < n_chains * tile_width; ++k) fields[k] = 0;  // padding keeps it
      TileFields<T> means(sweep.to_visible, n_chains);

      const auto draw_hidden = [&](std::int64_t tile, Draw draw) {
        constexpr std::int64_t full = strip_width<T>;
        const T* bias = hidden_bias.data() + tile * tile_width;
        const std::int64_t left = n_hidden - tile * tile_width, width = left < tile_width ? left : tile_width;
        find_products(sweep.to_hidden, tile, {scaled.data(), n_chains, stride, 1}, fields.data());
        std::uint32_t words[tile_width];
        constexpr float surely[tile_width] = {};
        for (std::int64_t c = 0; c < n_chains; ++c, ++draw.chain) {
          if (c == 0 || draw.chain % 2 == 0) tile_words(draw, Stream::gibbs_hidden, tile, words);
          const T factor = static_cast<T>(beta_of(c));
          T scaled_field[tile_width];
          for (std::int64_t k = 0; k < tile_width; k += full) {
            const T* field = fields.data() + (k * n_chains + c * full);
            for (std::int64_t l = 0; l < full; ++l) scaled_field[k + l] = (field[l] + bias[k + l]) * factor;
          }
          if (!all_finite(scaled_field, width)) overflowed.store(true, std::memory_order_relaxed);
          float x[tile_width];
          for (std::int64_t l = 0; l < tile_width; ++l) x[l] = static_cast<float>(scaled_field[l]);
          hidden[tile * n_chains + c] =
              decide(x, surely, draw, hidden_draws, tile, n_hidden, words, [&](std::int64_t l) { return x[l]; });
        }
      };
      const auto draw_visible = [&](std::int64_t tile, Draw draw, bool last) {
        constexpr std::int64_t full = strip_width<T>;
        means.find(tile, fields.data());
        const T* bias = visible_bias.data() + tile * tile_width;
        const T* of_sigma = sigma.data() + tile * tile_width;
        const T* of_precision = precision.data() + tile * tile_width;
        const std::int64_t left = n_visible - tile * tile_width, width = left < tile_width ? left : tile_width;
        for (std::int64_t c = 0; c < n_chains; ++c, ++draw.chain) {
          const auto spread = static_cast<T>(1.0 / numerics::square_root(beta_of(c)));
          T noise[tile_width], v[tile_width];
          tile_normals(draw, Stream::gaussian_visible, tile, noise);
          for (std::int64_t k = 0; k < tile_width; k += full) {
            const T* mean = fields.data() + (k * n_chains + c * full);
            for (std::int64_t l = 0; l < full; ++l) {
              v[k + l] = (mean[l] + bias[k + l]) + of_sigma[k + l] * spread * noise[k + l];
            }
          }
          if (!all_finite(v, width)) overflowed.store(true, std::memory_order_relaxed);
          if (args.clamped != nullptr) {
            const std::int64_t row = args.n_clamped > 1 ? first + c : 0;
            for (std::uint64_t kept = args.clamped[row * visible_words + tile]; kept != 0; kept &= kept - 1) {
              const int l = __builtin_ctzll(kept);
              v[l] = start[(first + c) * n_visible + tile * tile_width + l];
            }
          }
          T* to = scaled.data() + c * stride + tile * tile_width;
          for (std::int64_t l = 0; l < tile_width; ++l) to[l] = v[l] * of_precision[l];
          if (!last) continue;
          T* result = out + (first + c) * n_visible + tile * tile_width;
          for (std::int64_t l = 0; l < width; ++l) result[l] = v[l];
        }
      };

      for (std::int64_t t = 0; t < args.n_steps; ++t) {
        const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first),
                        static_cast<std::uint64_t>(args.first_step + t)};
        for (std::int64_t tile; (tile = member.next(n_hidden_tiles)) >= 0;) {
          runtime::check_interrupt();
          draw_hidden(tile, draw);
        }
        means.start({hidden.data(), n_chains, 1, n_chains});
        for (std::int64_t tile; (tile = member.next(n_visible_tiles)) >= 0;) {
          runtime::check_interrupt();
          draw_visible(tile, draw, t + 1 == args.n_steps);
        }
      }
    };
    const std::int64_t most = n_visible_tiles > n_hidden_tiles ? n_visible_tiles : n_hidden_tiles;
    runtime::parallel_team(n_threads, most, share_steps);
    for (std::int64_t c = 0; c < n_chains; ++c) {
      for (std::int64_t w = 0; w < hidden_words; ++w) {
        args.hidden[(first + c) * hidden_words + w] = hidden[w * n_chains + c];
      }
    }
  };

  const double n_weights = static_cast<double>(n_visible) * static_cast<double>(n_hidden);
  const double of_chain = n_weights / 24.0 + 2.0 * static_cast<double>(n_visible + n_hidden);
  const std::int64_t fewest_tiles = n_visible_tiles < n_hidden_tiles ? n_visible_tiles : n_hidden_tiles;
  ChainBlocks(args.n_chains, args.n_steps, static_cast<double>(args.n_chains) * of_chain, fewest_tiles,
              args.num_threads)
      .each(sweep_block);
}

}  // namespace

void gaussian_gibbs(const GaussianGibbsArgs& args) {
  args.rbm.real == Real::float32 ? run<float>(args) : run<double>(args);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
