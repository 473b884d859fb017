#include "contrast.hpp"

#include "bit_pairs.hpp"
#include "gibbs_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t block_states = 256;  // their fields for one strip fill 16 kB
constexpr std::int64_t fewest_states = 32;  // of a block: fewer are not worth their tables

constexpr double rounds_cost = 12;  // a thread that shares rounds must have this much more to do

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

// Rows whose share of the averages is added up together, and their visible states, unit by unit.
struct Group {
  Rows rows;
  std::uint64_t* by_unit;  // (words of rows.n, n_visible)
};

// Samples first, chains behind them; words first, so that loops run over the states. Means of h are made for a tile and
// a block of states, added to the averages, and forgotten: none are kept.
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
  const runtime::Buffer<std::uint64_t> by_unit;  // of all groups

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
        by_unit((from_data ? words_for(args.n_data) + words_for(args.n_chains) : words_for(n_all)) * n_visible) {
    copy_words(args.data, args.n_data, words_for(n_visible), visible.data(), n_all);
    if (!from_data) copy_words(args.start, args.n_chains, words_for(n_hidden), hidden.data(), args.n_chains);
  }

  static void copy_words(const std::uint64_t* states, std::int64_t n, std::int64_t words, std::uint64_t* to,
                         std::int64_t stride) {
    for (std::int64_t s = 0; s < n; ++s) {
      for (std::int64_t w = 0; w < words; ++w) to[w * stride + s] = states[s * words + w];
    }
  }

  Rows data() const { return {0, args.n_data}; }
  Rows chains() const { return {args.n_data, args.n_chains}; }
  // CD needs the data's fields before there are chains; persistent chains share the tables of the data.
  Group of_data() const { return {data(), by_unit.data()}; }
  Group of_chains() const { return {chains(), by_unit.data() + words_for(args.n_data) * n_visible}; }
  Group of_all() const { return {{0, n_all}, by_unit.data()}; }

  std::int64_t most_tasks() const {
    const auto of_tiles = [&](const HalfSweep& half, Rows rows) {
      return Blocks(rows, half.layer.n_tiles, n_threads).n_blocks * half.layer.n_tiles;
    };
    std::int64_t most = sweep.to_hidden.layer.n_tiles * n_parts();
    for (const std::int64_t tasks :
         {of_tiles(sweep.to_hidden, chains()), of_tiles(sweep.to_visible, chains()), words_for(n_visible)}) {
      if (tasks > most) most = tasks;
    }
    return most;
  }
  // In how many parts the visible units of a tile's averages are shared out; each part finds the means again.
  std::int64_t n_parts() const {
    const std::int64_t wanted = ceil_div(n_threads, sweep.to_hidden.layer.n_tiles);
    const std::int64_t most = ceil_div(n_visible, block_units);
    return wanted < most ? wanted : most;
  }

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
  template <class DrawHidden>
  void add(runtime::Member& member, const Group& group, DrawnFields& fields, const DrawHidden& draw_hidden) const;
  void put_means(std::int64_t tile, const std::int32_t* fields, Rows rows, const BitLayer<T>& means) const;
  void average_visible(const Group& group, std::int64_t word) const;
  static void add_hidden(const BitLayer<T>& means, Rows rows, T (&sums)[tile_width]);
};

template <class T>
void Contrast<T>::share(runtime::Member& member) const {
  const std::int64_t most = n_all < block_states ? n_all : block_states;
  const numerics::Key key = numerics::key_from(args.seed);
  constexpr double beta = 1.0;
  const FieldsOfLayer exact_hidden(to_hidden_layer, nullptr, beta, most);
  const FieldsOfLayer of_hidden(to_hidden_layer, coarse != nullptr ? &coarse->to_hidden : nullptr, beta, most);
  const FieldsOfLayer of_visible(to_visible_layer, coarse != nullptr ? &coarse->to_visible : nullptr, beta, most);
  DrawnFields averaged(exact_hidden), to_hidden(of_hidden), to_visible(of_visible);

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
  const auto draw_hidden = [&](std::int64_t tile, Rows of_chains, const FieldsOfTile& fields, std::int64_t step) {
    const Draw draw{key, static_cast<std::uint32_t>(of_chains.first), static_cast<std::uint64_t>(step)};
    std::uint64_t* to = hidden.data() + tile * args.n_chains + of_chains.first;
    draw_tile(to_hidden_layer, tile, fields, of_chains.n, draw, &beta, false,
              [&](std::int64_t c, std::uint64_t state) { to[c] = state; });
  };

  if (from_data) {
    add(member, of_data(), averaged, [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
      draw_hidden(tile, rows, fields, args.first_step);
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
                draw_hidden(tile, {rows.first - args.n_data, rows.n}, fields, step + 1);
              });
  }
  if (from_data) {
    add(member, of_chains(), averaged, [](std::int64_t, Rows, const FieldsOfTile&) {});
  } else {
    add(member, of_all(), averaged, [&](std::int64_t tile, Rows rows, const FieldsOfTile& fields) {
      const std::int64_t n_before = args.n_data - rows.first;  // samples that are no chains
      if (n_before >= rows.n) return;
      const std::int64_t skip = n_before > 0 ? n_before : 0;
      draw_hidden(tile, {rows.first + skip - args.n_data, rows.n - skip}, fields.from(skip),
                  args.first_step + args.n_steps);
    });
  }
}

// Adds the group's share to all averages; draw_hidden(tile, rows, fields) is called for each tile and block of rows.
template <class T>
template <class DrawHidden>
void Contrast<T>::add(runtime::Member& member, const Group& group, DrawnFields& fields,
                      const DrawHidden& draw_hidden) const {
  for (std::int64_t word; (word = member.next(words_for(n_visible))) >= 0;) average_visible(group, word);

  const std::int64_t n_tiles = sweep.to_hidden.layer.n_tiles, units_of_part = ceil_div(n_visible, n_parts());
  const std::int64_t end = group.rows.first + group.rows.n;
  const runtime::Buffer<T> sums(block_units * tile_width), table(table_size<T>);
  for (std::int64_t task; (task = member.next(n_tiles * n_parts())) >= 0;) {
    const std::int64_t tile = task % n_tiles, part = task / n_tiles, first_output = tile * tile_width;
    const std::int64_t left = n_hidden - first_output, width = left < tile_width ? left : tile_width;
    const std::int64_t first_unit = part * units_of_part, after = first_unit + units_of_part;
    const std::int64_t end_unit = after < n_visible ? after : n_visible;
    T data_sums[tile_width] = {}, chains_sums[tile_width] = {};
    for (std::int64_t first = group.rows.first; first < end; first += block_states) {
      runtime::check_interrupt();
      const Rows rows{first, end - first < block_states ? end - first : block_states};
      fields.start({visible.data() + first, rows.n, 1, n_all});
      const FieldsOfTile found = fields.find(tile);
      const BitLayer<T> means(rows.n, width);
      put_means(tile, found.fields, rows, means);
      if (part == 0) {
        const std::int64_t before = args.n_data - first, n_data = before < 0 ? 0 : before < rows.n ? before : rows.n;
        add_hidden(means, {0, n_data}, data_sums);
        add_hidden(means, {n_data, rows.n - n_data}, chains_sums);
        draw_hidden(tile, rows, found);
      }
      const std::uint64_t* states = group.by_unit + (first - group.rows.first) / word_bits * n_visible;
      for (std::int64_t unit = first_unit; unit < end_unit; unit += block_units) {
        const std::int64_t n = end_unit - unit < block_units ? end_unit - unit : block_units;
        add_pairs(means, 0, {states + unit, n, 1, n_visible}, first > 0, sums.data(), table.data(),
                  static_cast<T*>(args.pairs) + unit * n_hidden + first_output, n_hidden);
      }
    }
    if (part > 0) continue;
    for (std::int64_t l = 0; l < width; ++l) {
      if (group.rows.first < args.n_data) static_cast<T*>(args.data_hidden)[first_output + l] = data_sums[l];
      if (end > args.n_data) static_cast<T*>(args.chains_hidden)[first_output + l] = -chains_sums[l];
    }
  }
}

// The means of h of one tile as terms of the averages: h_n / n_data of the data, -h_n / n_chains of the chains.
template <class T>
void Contrast<T>::put_means(std::int64_t tile, const std::int32_t* fields, Rows rows, const BitLayer<T>& means) const {
  constexpr std::int64_t width = strip_width<std::int32_t>, full = strip_width<T>;
  const T of_data = T(1) / static_cast<T>(args.n_data), of_chains = T(-1) / static_cast<T>(args.n_chains);
  for (std::int64_t first = 0; first < means.n_out; first += width) {
    T factor[width], bias[width];
    for (std::int64_t l = 0; l < width; ++l) {
      factor[l] = static_cast<T>(sweep.to_hidden.unit[tile * tile_width + first + l]);
      bias[l] = static_cast<T>(to_hidden_layer.bias[tile * tile_width + first + l]);
    }
    const std::int32_t* field = fields + first * rows.n;
    for (std::int64_t s = 0; s < rows.n; ++s) {
      const T share = rows.first + s < args.n_data ? of_data : of_chains;
      T mean[width];
      for (std::int64_t l = 0; l < width; ++l) {
        const T x = static_cast<T>(field[s * width + l]) * factor[l] + bias[l];
        const T e = numerics::exp_negative(-numerics::magnitude(x));
        mean[l] = (x < T(0) ? e : T(1)) / (T(1) + e) * share;
      }
      for (std::int64_t k = 0; k < width && first + k < means.n_out; k += full) {
        T* to = means.block_rows((first + k) / full, 0) + s * full;
        for (std::int64_t l = 0; l < full; ++l) to[l] = mean[k + l];
      }
    }
  }
  // Tables are made of whole blocks of samples.
  for (std::int64_t strip = 0; strip < means.n_strips; ++strip) {
    T* strip_rows = means.block_rows(strip, 0);
    for (std::int64_t k = rows.n * full; k < means.zero_row * full; ++k) strip_rows[k] = T(0);
  }
}

template <class T>
void Contrast<T>::average_visible(const Group& group, std::int64_t word) const {
  const std::int64_t n_data = args.n_data - group.rows.first;  // of the group's rows, if positive
  transpose_word({visible.data() + group.rows.first, group.rows.n, 1, n_all}, word, n_visible, group.by_unit);
  const std::int64_t left = n_visible - word * word_bits, width = left < word_bits ? left : word_bits;
  for (std::int64_t unit = word * word_bits; unit < word * word_bits + width; ++unit) {
    std::int64_t all = 0, of_data = 0;
    for (std::int64_t w = 0; w < words_for(group.rows.n); ++w) {
      const std::uint64_t bits = group.by_unit[w * n_visible + unit];
      const std::int64_t n = n_data - w * word_bits;  // samples from here on
      all += __builtin_popcountll(bits);
      of_data += __builtin_popcountll(n >= word_bits ? bits : n > 0 ? bits & ((std::uint64_t{1} << n) - 1) : 0);
    }
    if (n_data > 0) static_cast<T*>(args.data_visible)[unit] = static_cast<T>(of_data) / static_cast<T>(args.n_data);
    if (n_data < group.rows.n) {
      static_cast<T*>(args.chains_visible)[unit] = static_cast<T>(all - of_data) / static_cast<T>(args.n_chains);
    }
  }
}

template <class T>
void Contrast<T>::add_hidden(const BitLayer<T>& means, Rows rows, T (&sums)[tile_width]) {
  constexpr std::int64_t full = strip_width<T>;
  for (std::int64_t strip = 0; strip < means.n_strips; ++strip) {
    const T* from = means.block_rows(strip, 0);
    for (std::int64_t s = rows.first; s < rows.first + rows.n;) {
      T of_some[full] = {};
      for (std::int64_t k = 0; k < word_bits && s < rows.first + rows.n; ++k, ++s) {
        for (std::int64_t l = 0; l < full; ++l) of_some[l] += from[s * full + l];
      }
      for (std::int64_t l = 0; l < full; ++l) sums[strip * full + l] += of_some[l];
    }
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
  if (coarse_is_worth(args.n_chains, args.n_chains, args.n_steps, false)) {
    CoarseSweep coarse(sweep);
    work(&coarse);
  } else {
    work(nullptr);
  }
}

}  // namespace

void contrast(const ContrastArgs& args) { args.rbm.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
