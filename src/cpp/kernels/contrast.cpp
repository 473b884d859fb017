#include "contrast.hpp"

#include "bit_pairs.hpp"
#include "gibbs_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t block_states = 256;  // their fields for one strip fill 16 kB
constexpr std::int64_t fewest_states = 32;  // of a block: fewer are not worth their tables

constexpr double rounds_cost = 4;  // a thread that shares rounds must have this much more to do

// Rows that are done together: [first, first + n).
struct Rows {
  std::int64_t first, n;
};

// A range of rows in blocks of about the same size; more of them where the tiles alone would not keep threads busy.
struct Blocks {
  Rows all;
  std::int64_t n_blocks, size;

  Blocks(Rows rows, std::int64_t n_tiles, std::int64_t n_threads)
      : all(rows), n_blocks(ceil_div(rows.n, block_states)) {
    const std::int64_t wanted = ceil_div(n_threads, n_tiles), most = ceil_div(rows.n, fewest_states);
    if (n_blocks < wanted) n_blocks = wanted < most ? wanted : most;
    size = ceil_div(rows.n, n_blocks);
    n_blocks = ceil_div(rows.n, size);
  }
  Rows operator[](std::int64_t block) const {
    const std::int64_t begin = block * size, left = all.n - begin;
    return {all.first + begin, left < size ? left : size};
  }
};

// Samples first, chains behind them; words first, so that loops run over the states.
template <class T>
struct Contrast {
  const ContrastArgs& args;
  const Sweep& sweep;
  const CoarseSweep* coarse;  // null if it is not worth making
  const DrawnLayer to_hidden_layer, to_visible_layer;
  const std::int64_t n_visible, n_hidden, n_all, n_threads;
  const bool from_data;                          // CD
  const runtime::Buffer<std::uint64_t> visible;  // (words of n_visible, n_all)
  const runtime::Buffer<std::uint64_t> hidden;   // (words of n_hidden, n_chains)
  const runtime::Buffer<std::uint64_t> by_unit;  // (words of n_all, n_visible)
  const BitLayer<T> means;                       // of h: rows h_n / n_data of the data, -h_n / n_chains of the chains

  Contrast(const ContrastArgs& given, const Sweep& prepared, const CoarseSweep* of_sweep, std::int64_t threads)
      : args(given),
        sweep(prepared),
        coarse(of_sweep),
        to_hidden_layer(sweep.to_hidden, args.rbm.real, args.rbm.hidden_bias),
        to_visible_layer(sweep.to_visible, args.rbm.real, args.rbm.visible_bias),
        n_visible(args.rbm.n_visible),
        n_hidden(args.rbm.n_hidden),
        n_all(args.n_data + args.n_chains),
        n_threads(threads),
        from_data(args.start == nullptr),
        visible(words_for(n_visible) * n_all),
        hidden(words_for(n_hidden) * args.n_chains),
        by_unit(words_for(n_all) * n_visible),
        means(n_all, n_hidden) {
    copy_words(args.data, args.n_data, words_for(n_visible), visible.data(), n_all);
    if (!from_data) copy_words(args.start, args.n_chains, words_for(n_hidden), hidden.data(), args.n_chains);
    // Tables are made of whole blocks of samples.
    for (std::int64_t strip = 0; strip < means.n_strips; ++strip) {
      T* rows = means.block_rows(strip, 0);
      for (std::int64_t k = n_all * strip_width<T>; k < means.zero_row * strip_width<T>; ++k) rows[k] = T(0);
    }
  }

  static void copy_words(const std::uint64_t* states, std::int64_t n, std::int64_t words, std::uint64_t* to,
                         std::int64_t stride) {
    for (std::int64_t s = 0; s < n; ++s) {
      for (std::int64_t w = 0; w < words; ++w) to[w * stride + s] = states[s * words + w];
    }
  }

  Rows data() const { return {0, args.n_data}; }
  Rows chains() const { return {args.n_data, args.n_chains}; }
  Rows everything() const { return {0, n_all}; }

  std::int64_t most_tasks() const {
    const auto of_tiles = [&](const HalfSweep& half, Rows rows) {
      return Blocks(rows, half.layer.n_tiles, n_threads).n_blocks * half.layer.n_tiles;
    };
    std::int64_t most = of_tiles(sweep.to_hidden, everything());
    for (const std::int64_t tasks :
         {of_tiles(sweep.to_hidden, data()), of_tiles(sweep.to_hidden, chains()), of_tiles(sweep.to_visible, chains()),
          means.n_tiles * unit_blocks(), words_for(n_visible)}) {
      if (tasks > most) most = tasks;
    }
    return most;
  }
  std::int64_t unit_blocks() const { return ceil_div(n_visible, block_units); }

  void give_back() const {
    copy_back(visible, n_all, args.n_data, words_for(n_visible), args.visible);
    if (args.hidden != nullptr) copy_back(hidden, args.n_chains, 0, words_for(n_hidden), args.hidden);
  }
  void copy_back(const runtime::Buffer<std::uint64_t>& from, std::int64_t stride, std::int64_t first,
                 std::int64_t words, std::uint64_t* to) const {
    for (std::int64_t c = 0; c < args.n_chains; ++c) {
      for (std::int64_t w = 0; w < words; ++w) to[c * words + w] = from[w * stride + first + c];
    }
  }

  // One thread's part of the work.
  void share(runtime::Member& member) const;
  void put_means(std::int64_t tile, const std::int32_t* fields, Rows rows) const;
  void average_visible(std::int64_t word) const;
  void average_hidden(std::int64_t tile) const;
};

template <class T>
void Contrast<T>::share(runtime::Member& member) const {
  const std::int64_t most = n_all < block_states ? n_all : block_states;
  const numerics::Key key = numerics::key_from(args.seed);
  constexpr double beta = 1.0;
  DrawnFields averaged(to_hidden_layer, nullptr, beta, most);
  DrawnFields to_hidden(to_hidden_layer, coarse != nullptr ? &coarse->to_hidden : nullptr, beta, most);
  DrawnFields to_visible(to_visible_layer, coarse != nullptr ? &coarse->to_visible : nullptr, beta, most);

  const auto each_tile = [&](const HalfSweep& half, DrawnFields& fields, const std::uint64_t* from, std::int64_t stride,
                             Rows states, const auto& body) {
    const Blocks blocks(states, half.layer.n_tiles, n_threads);
    for (std::int64_t task; (task = member.next(blocks.n_blocks * half.layer.n_tiles)) >= 0;) {
      runtime::check_interrupt();
      const Rows rows = blocks[task / half.layer.n_tiles];
      const std::int64_t tile = task % half.layer.n_tiles;
      fields.start({from + rows.first, rows.n, 1, stride});
      body(tile, rows, fields.find(tile));
    }
  };
  // Draws h of the chains in `rows`, whose first n_before states are no chains.
  const auto draw_hidden = [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields, std::int64_t first_chain,
                               std::int64_t n_before, std::int64_t step) {
    const Draw draw{key, static_cast<std::uint32_t>(first_chain), static_cast<std::uint64_t>(step)};
    std::uint64_t* to = hidden.data() + tile * args.n_chains + first_chain;
    draw_tile(to_hidden_layer, tile, fields.from(n_before), rows.n - n_before, draw, &beta, false,
              [&](std::int64_t c, std::uint64_t state) { to[c] = state; });
  };

  if (from_data) {
    each_tile(sweep.to_hidden, averaged, visible.data(), n_all, data(),
              [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
                put_means(tile, fields.fields, rows);
                draw_hidden(tile, rows, fields, rows.first, 0, args.first_step);
              });
  }
  for (std::int64_t t = 0; t < args.n_steps; ++t) {
    const std::int64_t step = args.first_step + t;
    each_tile(sweep.to_visible, to_visible, hidden.data(), args.n_chains, {0, args.n_chains},
              [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
                const Draw draw{key, static_cast<std::uint32_t>(rows.first), static_cast<std::uint64_t>(step)};
                std::uint64_t* to = visible.data() + tile * n_all + args.n_data + rows.first;
                draw_tile(to_visible_layer, tile, fields, rows.n, draw, &beta, false,
                          [&](std::int64_t c, std::uint64_t state) { to[c] = state; });
              });
    if (t + 1 == args.n_steps) break;
    each_tile(sweep.to_hidden, to_hidden, visible.data(), n_all, chains(),
              [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
                draw_hidden(tile, rows, fields, rows.first - args.n_data, 0, step + 1);
              });
  }
  each_tile(sweep.to_hidden, averaged, visible.data(), n_all, from_data ? chains() : everything(),
            [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
              put_means(tile, fields.fields, rows);
              if (from_data) return;
              const std::int64_t before = args.n_data - rows.first, n_before = before > 0 ? before : 0;
              if (n_before >= rows.n) return;
              draw_hidden(tile, rows, fields, rows.first + n_before - args.n_data, n_before,
                          args.first_step + args.n_steps);
            });

  for (std::int64_t word; (word = member.next(words_for(n_visible))) >= 0;) average_visible(word);
  const runtime::Buffer<T> sums(block_units * tile_width), table(table_size<T>);
  for (std::int64_t task; (task = member.next(means.n_tiles * unit_blocks())) >= 0;) {
    runtime::check_interrupt();
    const std::int64_t tile = task % means.n_tiles, first = task / means.n_tiles * block_units;
    const std::int64_t n = n_visible - first < block_units ? n_visible - first : block_units;
    if (first == 0) average_hidden(tile);
    add_pairs(means, tile, {by_unit.data() + first, n, 1, n_visible}, false, sums.data(), table.data(),
              static_cast<T*>(args.pairs) + first * n_hidden + tile * tile_width, n_hidden);
  }
}

// The averages that the means of these states contribute to, term by term.
template <class T>
void Contrast<T>::put_means(std::int64_t tile, const std::int32_t* fields, Rows rows) const {
  constexpr std::int64_t width = strip_width<std::int32_t>, full = strip_width<T>;
  const T of_data = T(1) / static_cast<T>(args.n_data), of_chains = T(-1) / static_cast<T>(args.n_chains);
  for (std::int64_t first = tile * tile_width; first < n_hidden && first < (tile + 1) * tile_width; first += width) {
    T factor[width], bias[width];
    for (std::int64_t l = 0; l < width; ++l) {
      factor[l] = static_cast<T>(sweep.to_hidden.unit[first + l]);
      bias[l] = static_cast<T>(to_hidden_layer.bias[first + l]);
    }
    const std::int32_t* field = fields + first % tile_width * rows.n;
    for (std::int64_t s = 0; s < rows.n; ++s) {
      const T share = rows.first + s < args.n_data ? of_data : of_chains;
      T mean[width];
      for (std::int64_t l = 0; l < width; ++l) {
        const T x = static_cast<T>(field[s * width + l]) * factor[l] + bias[l];
        const T e = numerics::exp_negative(-numerics::magnitude(x));
        mean[l] = (x < T(0) ? e : T(1)) / (T(1) + e) * share;
      }
      for (std::int64_t k = 0; k < width && first + k < n_hidden; k += full) {
        T* to = means.block_rows((first + k) / full, 0) + (rows.first + s) * full;
        for (std::int64_t l = 0; l < full; ++l) to[l] = mean[k + l];
      }
    }
  }
}

template <class T>
void Contrast<T>::average_visible(std::int64_t word) const {
  transpose_word({visible.data(), n_all, 1, n_all}, word, n_visible, by_unit.data());
  const std::int64_t left = n_visible - word * word_bits, width = left < word_bits ? left : word_bits;
  for (std::int64_t unit = word * word_bits; unit < word * word_bits + width; ++unit) {
    std::int64_t all = 0, of_data = 0;
    for (std::int64_t w = 0; w < words_for(n_all); ++w) {
      const std::uint64_t bits = by_unit[w * n_visible + unit];
      const std::int64_t n = args.n_data - w * word_bits;  // samples from here on
      all += __builtin_popcountll(bits);
      of_data += __builtin_popcountll(n >= word_bits ? bits : n > 0 ? bits & ((std::uint64_t{1} << n) - 1) : 0);
    }
    static_cast<T*>(args.data_visible)[unit] = static_cast<T>(of_data) / static_cast<T>(args.n_data);
    static_cast<T*>(args.chains_visible)[unit] = static_cast<T>(all - of_data) / static_cast<T>(args.n_chains);
  }
}

template <class T>
void Contrast<T>::average_hidden(std::int64_t tile) const {
  constexpr std::int64_t full = strip_width<T>;
  for (std::int64_t first = tile * tile_width; first < n_hidden && first < (tile + 1) * tile_width; first += full) {
    const T* rows = means.block_rows(first / full, 0);
    const auto sum_of = [&](Rows states, T sign, T* out) {
      T sum[full] = {};
      for (std::int64_t s = states.first; s < states.first + states.n;) {
        T of_some[full] = {};
        for (std::int64_t k = 0; k < word_bits && s < states.first + states.n; ++k, ++s) {
          for (std::int64_t l = 0; l < full; ++l) of_some[l] += rows[s * full + l];
        }
        for (std::int64_t l = 0; l < full; ++l) sum[l] += of_some[l];
      }
      for (std::int64_t l = 0; l < full && first + l < n_hidden; ++l) out[first + l] = sign * sum[l];
    };
    sum_of(data(), T(1), static_cast<T*>(args.data_hidden));
    sum_of(chains(), T(-1), static_cast<T*>(args.chains_hidden));
  }
}

template <class T>
void run(const ContrastArgs& args) {
  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(args.rbm.n_hidden);
  const double n_draws = static_cast<double>(args.rbm.n_visible + args.rbm.n_hidden);
  const std::int64_t n_all = args.n_data + args.n_chains, n_products = 2 * n_all + 2 * args.n_steps * args.n_chains;
  const double nanoseconds = static_cast<double>(n_products) * n_weights / 96.0 +
                             static_cast<double>((args.n_steps + 1) * args.n_chains) * n_draws;
  const std::int64_t n_threads = runtime::threads_worth(nanoseconds / rounds_cost, args.num_threads);
  // Parameters change between updates: they are rounded here, by the same threads, and not kept.
  Sweep sweep(args.rbm);
  const Rounding<T> rounding = sweep.rounding<T>(args.rbm);
  const auto work = [&](CoarseSweep* coarse) {
    const Contrast<T> contrast(args, sweep, coarse, n_threads);
    std::int64_t most = contrast.most_tasks();
    for (const std::int64_t tasks : {rounding.most_tasks(), coarse != nullptr ? coarse->most_tasks() : 0}) {
      if (tasks > most) most = tasks;
    }
    runtime::parallel_team(n_threads, most, [&](runtime::Member& member) {
      rounding.share(member);
      if (coarse != nullptr) coarse->share(member);
      contrast.share(member);
    });
    contrast.give_back();
  };
  if (args.n_chains >= states_worth_coarse && args.n_steps >= ceil_div(chain_steps_worth_coarse, args.n_chains)) {
    CoarseSweep coarse(sweep);
    work(&coarse);
  } else {
    work(nullptr);
  }
}

}  // namespace

void contrast(const ContrastArgs& args) { args.rbm.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
