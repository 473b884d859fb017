#include "gibbs.hpp"

#include "gibbs_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
void gibbs(const GibbsArgs& args) {
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const Sweep& sweep = Sweep::of(cache, args.rbm, args.num_threads);
  const DrawnLayer to_hidden_layer(sweep.to_hidden, args.rbm.real, args.rbm.hidden_bias);
  const DrawnLayer to_visible_layer(sweep.to_visible, args.rbm.real, args.rbm.visible_bias);
  const std::int64_t visible_words = words_for(args.rbm.n_visible), hidden_words = words_for(args.rbm.n_hidden);
  const numerics::Key key = numerics::key_from(args.seed);
  double largest_beta = 0;
  for (std::int64_t k = 0; k < args.n_betas; ++k) {
    largest_beta = args.beta[k] > largest_beta ? args.beta[k] : largest_beta;
  }

  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(args.rbm.n_hidden);
  const double n_draws = static_cast<double>(args.rbm.n_visible + args.rbm.n_hidden);
  const double weights_per_nanosecond = args.n_chains < states_worth_pairs ? 12.0 : 64.0;
  const double of_step = static_cast<double>(args.n_chains) * (n_weights / weights_per_nanosecond + 2.0 * n_draws);
  const ChainBlocks blocks(args.n_chains, args.n_steps, of_step, sweep.fewest_tiles(), args.num_threads);
  const CoarseSweep* coarse = nullptr;
  if (coarse_is_worth(blocks.size, args.n_chains, args.n_steps, args.prepared != nullptr)) {
    coarse = &CoarseSweep::of(cache, sweep, args.num_threads);
  }

  // Chains [first, first + n_chains) by threads that share the tiles of each half step.
  const auto sweep_block = [&](std::int64_t first, std::int64_t n_chains, std::int64_t n_threads) {
    const bool keep = args.n_steps > 1 && fields_worth_keeping(n_chains, n_threads);
    const FieldsOfLayer of_hidden(to_hidden_layer, coarse ? &coarse->to_hidden : nullptr, largest_beta, n_chains, keep);
    const FieldsOfLayer of_visible(to_visible_layer, coarse ? &coarse->to_visible : nullptr, largest_beta, n_chains,
                                   keep);
    StepStates visible(visible_words, n_chains, of_hidden.keeps), hidden(hidden_words, n_chains, of_visible.keeps);
    visible.take(args.start + first * visible_words);
    const auto share_steps = [&](runtime::Member& member) {
      DrawnFields to_hidden(of_hidden), to_visible(of_visible);
      const auto half_sweep = [&](const DrawnLayer& layer, DrawnFields& fields, std::uint64_t* to, std::uint64_t step,
                                  bool may_clamp) {
        for (std::int64_t tile; (tile = member.next(layer.half.layer.n_tiles)) >= 0;) {
          runtime::check_interrupt();
          const FieldsOfTile found = fields.find(tile);
          const Draw draw{key, static_cast<std::uint32_t>(args.first_chain + first), step};
          const double* beta = args.n_betas > 1 ? args.beta + first : args.beta;
          draw_tile(layer, tile, found, n_chains, draw, beta, args.n_betas > 1,
                    [&](std::int64_t c, std::uint64_t state) {
                      if (may_clamp && args.clamped != nullptr) {
                        const std::int64_t row = args.n_clamped > 1 ? first + c : 0;
                        const std::uint64_t kept = args.clamped[row * visible_words + tile];
                        state = (state & ~kept) | (args.start[(first + c) * visible_words + tile] & kept);
                      }
                      to[tile * n_chains + c] = state;
                    });
        }
      };
      for (std::int64_t t = 0; t < args.n_steps; ++t) {
        const auto step = static_cast<std::uint64_t>(args.first_step + t);
        to_hidden.start(visible.at(t), visible.before(t));
        half_sweep(to_hidden_layer, to_hidden, hidden.words(t), step, false);
        to_visible.start(hidden.at(t), hidden.before(t));
        half_sweep(to_visible_layer, to_visible, visible.words(t + 1), step, true);
      }
    };
    runtime::parallel_team(n_threads, sweep.most_tiles(), share_steps);
    visible.give(args.n_steps, args.visible + first * visible_words);
    hidden.give(args.n_steps - 1, args.hidden + first * hidden_words);
  };

  blocks.each(sweep_block);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
