// One step of block Gibbs sampling: the weights into each layer in fixed point, and how a tile of units is drawn.
// The law, its precision and its random numbers: gibbs.hpp.
#pragma once

#include <limits>

#include "../numerics/bernoulli.hpp"
#include "../numerics/fixed_point.hpp"
#include "../runtime/cache.hpp"
#include "../runtime/threads.hpp"
#include "coarse_layer.hpp"
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
  runtime::Buffer<double> unit;  // 1 / scale of each output's weights; 0 where there are none, and for padding, whose
                                 // fields are not written
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
    half.unit[output] = total > 0 ? 1.0 / scale : 0.0;
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
constexpr double meeting_cost = 3;                 // a thread that meets others must have this much more to do

// How chains are cut: into blocks for one thread each; or, if they are few, all in one, for as many threads as are
// worth it together. A step of all takes about of_step nanoseconds on one core.
struct ChainBlocks {
  std::int64_t n_chains, size, n_threads = 1;
  double nanoseconds;
  int most_threads;

  ChainBlocks(std::int64_t chains, std::int64_t n_steps, double of_step, std::int64_t fewest_tiles, int num_threads,
              std::int64_t most_chains = block_chains)
      : n_chains(chains), size(chains), nanoseconds(static_cast<double>(n_steps) * of_step), most_threads(num_threads) {
    const std::int64_t worth_starting = runtime::threads_worth(nanoseconds / meeting_cost, num_threads);
    if (worth_starting > 1 && n_chains < worth_starting * chains_of_their_own) {
      const auto worth = static_cast<std::int64_t>(0.5 * of_step / nanoseconds_per_share);
      const std::int64_t most = worth < worth_starting ? worth : worth_starting;
      if (most > 1 && fewest_tiles >= 2 * most) n_threads = most;
    }
    if (n_threads == 1) size = runtime::items_per_task(n_chains, most_chains, nanoseconds, num_threads);
  }

  // sweep_block(first, n, n_threads) for each.
  template <class SweepBlock>
  void each(const SweepBlock& sweep_block) const {
    if (n_threads > 1) return sweep_block(0, n_chains, n_threads);
    runtime::parallel_for(ceil_div(n_chains, size), nanoseconds, most_threads, [&](std::int64_t task) {
      const std::int64_t first = task * size;
      sweep_block(first, n_chains - first < size ? n_chains - first : size, std::int64_t{1});
    });
  }
};

// A layer to be drawn: the weights into it, and its biases.
struct DrawnLayer {
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

  // numerics::field_scale of each unit of a tile.
  struct Scales {
    float factors[tile_width], offsets[tile_width];
  };
  VFE_HD void scales(double beta, std::int64_t tile, Scales& scales) const {
    in_range(beta) ? find_scales<false>(beta, tile, scales) : find_scales<true>(beta, tile, scales);
  }
  template <bool may_be_beyond>
  VFE_HD void find_scales(double beta, std::int64_t tile, Scales& scales) const {
    const double *of_unit = half.unit.data() + tile * tile_width, *of_bias = bias.data() + tile * tile_width;
    for (std::int64_t l = 0; l < tile_width; ++l) {
      const auto scale = numerics::field_scale<may_be_beyond>(beta, of_unit[l], of_bias[l]);
      scales.factors[l] = scale.factor;
      scales.offsets[l] = scale.offset;
    }
  }
  VFE_HD bool in_range(double beta) const { return numerics::fields_in_range(beta, half.largest, largest); }

  // How far beta times the field of a unit may be off, with sums that are off by `error`, and what float32 rounds on
  // both ways (nine roundings of 2^-24; sixteen are allowed).
  VFE_HD double doubt(double beta, std::int64_t unit, double error) const {
    return beta * ((error + 0x1p30 * 0x1p-20) * half.unit[unit] + 0x1p-20 * numerics::magnitude(bias[unit]));
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

constexpr double most_doubt = 1.0, mean_doubt = 0.05;  // of x: beyond, too many draws would need the exact sum
// sigmoid(x) is off by at most slack times its slope at x, in units of 2^-16: on the way the slope grows by no more
// than e^doubt.
VFE_HD float slack_of(double doubt) {
  static_assert(most_doubt <= 1.0);  // up to there these are >= e^doubt - 1
  return static_cast<float>((doubt < 0.25 ? 1.14 : 1.72) * doubt * 0x1p16);
}

// e^x for x <= 0 to a relative 1e-5 (e^-87.3 below that).
VFE_HD Vector<float> exp_roughly(const Vector<float>& x) {
  using F = Vector<float>;
  using Bits = Vector<std::int32_t>;
  constexpr float c[] = {1.0f, 0.693121045f, 0.24022349f, 0.0559219758f, 0.00966636852f};
  constexpr float round_magic = numerics::Format<float>::round_magic;
  const F to_powers = F{} + 1.44269504f, held = larger(x, F{} - 87.3f);
  const F shifted = multiply_add(held, to_powers, F{} + round_magic);
  const F f = multiply_add(held, to_powers, round_magic - shifted);
  F p = F{} + c[4];
  VFE_UNROLL
  for (int k = 3; k >= 0; --k) p = multiply_add(p, f, F{} + c[k]);
  return reinterpret_cast<F>(reinterpret_cast<Bits>(p) + (reinterpret_cast<Bits>(shifted) << 23));
}

// The states of one tile's units, of which the layer has n_out, given about beta times their fields, how far these may
// be off, and random words; exact(l) is beta times the field of unit l.
//
// With e = e^-|x|, the less likely state is drawn if u + e (u - 1) < 0, u in units of 2^-16 here. Units that are that
// near to a tie are decided once more, exactly.
template <class Exact>
VFE_HD std::uint64_t decide(const float (&x)[tile_width], const float (&slack)[tile_width], const Draw& draw,
                            DrawStreams streams, std::int64_t tile, std::int64_t n_out,
                            const std::uint32_t (&words)[tile_width], const Exact& exact) {
  using F = Vector<float>;
  using I = Vector<std::int32_t>;
  constexpr float rounding = 3;  // of e, of u, and of where its cells end
  constexpr std::int32_t sign_bit = std::numeric_limits<std::int32_t>::min();
  const int from_bit = draw.chain % 2 == 0 ? 0 : 16;
  std::uint64_t off = 0, unsure = 0;
  VFE_UNROLL
  for (std::int64_t l = 0; l < tile_width; l += vector_width<float>) {
    I field, word;
    F of_slack;
    __builtin_memcpy(&field, x + l, sizeof field);
    __builtin_memcpy(&of_slack, slack + l, sizeof of_slack);
    __builtin_memcpy(&word, words + l, sizeof word);
    const I likely = field > -1;  // to be on: the sign bit is not set
    const F u = __builtin_convertvector(((word ^ likely) >> from_bit) & 0xFFFF, F);
    const F e = exp_roughly(reinterpret_cast<F>(field | sign_bit));
    const F above = multiply_add(e, u - 0x1p16f, u);
    // 1 + e times the slope of sigmoid at x is e / (1 + e) <= e (1 - e / 2).
    const F slope_over_e = multiply_add(e, F{} - 0.5f, F{} + 1.0f);
    const F margin = multiply_add(multiply_add(slope_over_e, of_slack, F{} + rounding), e, F{} + rounding);
    const F distance = reinterpret_cast<F>(reinterpret_cast<I>(above) & ~sign_bit);
    off |= bits_of(field ^ reinterpret_cast<I>(above)) << l;
    unsure |= bits_of(distance <= margin) << l;
  }
  std::uint64_t on = ~off;
  const std::int64_t width = n_out - tile * tile_width;
  const std::uint64_t all = width < tile_width ? (std::uint64_t{1} << width) - 1 : ~std::uint64_t{0};
  for (std::uint64_t left = unsure & all; left != 0; left &= left - 1) {
    const int l = __builtin_ctzll(left);
    const auto unit = static_cast<std::uint32_t>(tile * tile_width + l);
    const auto further = [&] {
      return numerics::philox4x32(numerics::draw_counter(unit, draw.chain, draw.step, streams.ties), draw.key);
    };
    const std::uint64_t bit = std::uint64_t{1} << l;
    on = numerics::bernoulli(exact(l), numerics::leading_bits(words[l], draw.chain), further) ? on | bit : on & ~bit;
  }
  return on & all;
}

// The fields of a tile's units, as TileFields leaves them: (strips of the tile, n_states, strip_width).
struct FieldsOfTile {
  const std::int32_t* fields;  // from the first state that is drawn
  std::int64_t n_states;
  const CoarseLayer* coarse;  // whose sums they are; null if they are exact
  States states;

  VFE_HD FieldsOfTile from(std::int64_t first) const {
    FieldsOfTile rest = *this;
    rest.fields += first * strip_width<std::int32_t>;
    rest.states.words += first * states.state_stride;
    return rest;
  }
};

// Draws one tile's units for each of n_chains chains, the first of which is that of `draw`, at one beta or one a
// chain; put(c, bits) takes what is drawn.
template <class Put>
VFE_HD void draw_tile(const DrawnLayer& to, std::int64_t tile, const FieldsOfTile& fields, std::int64_t n_chains,
                      Draw draw, const double* beta, bool beta_of_each, const Put& put) {
  constexpr std::int64_t full = strip_width<std::int32_t>;
  DrawnLayer::Scales scales;
  std::uint32_t words[tile_width];
  float factor[tile_width], slack[tile_width];
  const auto scale = [&](double of_chain) {
    to.scales(of_chain, tile, scales);
    for (std::int64_t l = 0; l < tile_width; ++l) {
      const std::int64_t output = tile * tile_width + l;
      const bool coarse = fields.coarse != nullptr;
      factor[l] = coarse ? scales.factors[l] * static_cast<float>(fields.coarse->unit(output)) : scales.factors[l];
      slack[l] = coarse ? slack_of(to.doubt(of_chain, output, fields.coarse->left_out[output])) : 0.0f;
    }
  };
  scale(beta[0]);
  for (std::int64_t c = 0; c < n_chains; ++c, ++draw.chain) {
    if (c == 0 || draw.chain % 2 == 0) tile_words(draw, to.half.streams.draws, tile, words);
    if (beta_of_each) scale(beta[c]);
    const std::int32_t* field = fields.fields + c * full;
    float x[tile_width];
    for (std::int64_t k = 0; k < tile_width; k += full) {
      for (std::int64_t l = 0; l < full; ++l) {
        x[k + l] = static_cast<float>(field[k * fields.n_states + l]) * factor[k + l] + scales.offsets[k + l];
      }
    }
    const auto exact = [&](std::int64_t l) {
      if (fields.coarse == nullptr) return x[l];
      const std::int32_t coarse = field[l / full * full * fields.n_states + l % full];
      const std::int32_t sum = fields.coarse->exact(coarse, tile * tile_width + l, fields.states, c);
      return static_cast<float>(sum) * scales.factors[l] + scales.offsets[l];
    };
    put(c, decide(x, slack, draw, to.half.streams, tile, to.half.layer.n_out, words, exact));
  }
}

// The coarse layers of both directions.
struct CoarseSweep {
  CoarseLayer to_hidden, to_visible;

  explicit CoarseSweep(const Sweep& sweep) : to_hidden(sweep.to_hidden.layer), to_visible(sweep.to_visible.layer) {}

  std::int64_t most_tasks() const {
    return to_hidden.layer.n_strips > to_visible.layer.n_strips ? to_hidden.layer.n_strips : to_visible.layer.n_strips;
  }
  void share(runtime::Member& member) {
    to_hidden.share(member);
    to_visible.share(member);
  }

  static const CoarseSweep& of(runtime::Cache& cache, const Sweep& sweep, int num_threads) {
    static constexpr char key = 0;
    const Context context{sweep, num_threads};
    return *static_cast<const CoarseSweep*>(cache.of_weights().find_or_make(&key, make, destroy, &context));
  }

 private:
  struct Context {
    const Sweep& sweep;
    int num_threads;
  };
  static void* make(const void* given) {
    const auto& context = *static_cast<const Context*>(given);
    auto* coarse = new CoarseSweep(context.sweep);
    const BitLayer<std::int32_t>& layer = coarse->to_hidden.exact_layer;
    const double nanoseconds = static_cast<double>(layer.n_in) * static_cast<double>(layer.n_out);
    try {
      runtime::parallel_team(runtime::threads_worth(nanoseconds, context.num_threads), coarse->most_tasks(),
                             [&](runtime::Member& member) { coarse->share(member); });
    } catch (...) {
      delete coarse;
      throw;
    }
    return coarse;
  }
  static void destroy(void* coarse) { delete static_cast<CoarseSweep*>(coarse); }
};

// The packed states of a block of chains, step by step, word first: loops run over the chains.
class StepStates {
 public:
  // `keep`: those of the step before are kept beside a step's.
  StepStates(std::int64_t n_words, std::int64_t n_chains, bool keep)
      : n_words_(n_words), n_chains_(n_chains), n_kept_(keep ? 2 : 1), words_(n_kept_ * n_words * n_chains) {}

  std::uint64_t* words(std::int64_t step) const { return words_.data() + step % n_kept_ * n_words_ * n_chains_; }
  States at(std::int64_t step) const { return {words(step), n_chains_, 1, n_chains_}; }
  // None if they are not kept, or step is the first.
  States before(std::int64_t step) const { return n_kept_ > 1 && step > 0 ? at(step - 1) : States{}; }

  // Of step 0, from (n_chains, n_words).
  void take(const std::uint64_t* chains) const {
    for (std::int64_t c = 0; c < n_chains_; ++c) {
      for (std::int64_t w = 0; w < n_words_; ++w) words(0)[w * n_chains_ + c] = chains[c * n_words_ + w];
    }
  }
  void give(std::int64_t step, std::uint64_t* chains) const {
    for (std::int64_t c = 0; c < n_chains_; ++c) {
      for (std::int64_t w = 0; w < n_words_; ++w) chains[c * n_words_ + w] = words(step)[w * n_chains_ + c];
    }
  }

 private:
  const std::int64_t n_words_, n_chains_, n_kept_;
  const runtime::Buffer<std::uint64_t> words_;
};

// Whether fields may be kept from step to step. Each thread lists the flips of all chains, about 90 ns for one of 784
// units; all of them save 1,500 together: many threads save nothing.
VFE_HD bool fields_worth_keeping(std::int64_t n_chains, std::int64_t n_threads) {
  constexpr std::int64_t most_threads = 8;
  return n_chains >= states_worth_groups && n_threads <= most_threads;
}

// How the fields that a layer is drawn from are found: coarse ones for many states, where they leave little doubt.
// Where they would leave more, weights are large, and few units flip in a step: exact fields may be kept.
struct FieldsOfLayer {
  const DrawnLayer& layer;
  const CoarseLayer* coarse;  // null: exact ones
  const std::int64_t max_states;
  const bool keeps;
  const runtime::Buffer<std::int32_t> kept;  // (tiles, max_states * tile_width), if any

  // `given` may be null. `keep`: max_states states come again and again, and all their tiles are found each time.
  FieldsOfLayer(const DrawnLayer& of, const CoarseLayer* given, double largest_beta, std::int64_t most_states,
                bool keep = false)
      : layer(of),
        coarse(given != nullptr && leaves_little_doubt(of, *given, largest_beta) ? given : nullptr),
        max_states(most_states),
        keeps(keep && coarse == nullptr),
        kept(keeps ? tile_size() * of.half.layer.n_tiles : 0) {
    if (keeps) clear(kept, of.half.layer.n_tiles);
  }

  std::int64_t tile_size() const { return max_states * tile_width; }
  // Padding is read, and comes to nothing.
  void clear(const runtime::Buffer<std::int32_t>& fields, std::int64_t n_tiles) const {
    for (std::int64_t k = 0; k < n_tiles * tile_size(); ++k) fields[k] = 0;
  }

 private:
  static bool leaves_little_doubt(const DrawnLayer& layer, const CoarseLayer& coarse, double beta) {
    if (!layer.in_range(beta)) return false;
    double sum = 0;
    for (std::int64_t j = 0; j < layer.half.layer.n_out; ++j) {
      const double doubt = layer.doubt(beta, j, coarse.left_out[j]);
      if (!(doubt <= most_doubt)) return false;
      sum += doubt;
    }
    return sum <= mean_doubt * static_cast<double>(layer.half.layer.n_out);
  }
};

// These fields, tile by tile: what one thread needs to find some of them.
class DrawnFields {
 public:
  explicit DrawnFields(const FieldsOfLayer& of)
      : of_(of),
        fields_(of.keeps ? 0 : of.tile_size()),
        exact_(of.layer.half.layer, of.max_states),
        table_(of.coarse != nullptr ? table_size<CoarseFields::Upper> : 0),
        sums_(of.coarse != nullptr ? of.max_states * CoarseFields::width : 0),
        flips_(of.layer.half.layer.n_in, of.keeps ? of.max_states : 0) {
    if (!of.keeps) of.clear(fields_, 1);
  }

  // `before`: the states whose fields are kept, if all of them are. Nothing is read until a tile is asked for: a
  // thread that has none to find may be late, and the states gone.
  void start(const States& states, const States& before = {}) {
    states_ = states;
    before_ = before;
    started_ = false;
  }
  FieldsOfTile find(std::int64_t tile) {
    if (!started_) look_at_states();
    const bool coarse = of_.coarse != nullptr && states_.n >= states_worth_groups;
    std::int32_t* fields = of_.keeps ? of_.kept.data() + tile * of_.tile_size() : fields_.data();
    if (coarse) {
      CoarseFields{*of_.coarse, states_, table_.data(), sums_.data()}.find(tile, fields);
    } else {
      near_ ? exact_.update(tile, flips_, fields) : exact_.find(tile, fields);
    }
    return {fields, states_.n, coarse ? of_.coarse : nullptr, states_};
  }

 private:
  void look_at_states() {
    exact_.start(states_);
    near_ = of_.keeps && before_.words != nullptr && flips_.list(states_, before_);
    started_ = true;
  }

  const FieldsOfLayer& of_;
  runtime::Buffer<std::int32_t> fields_;  // of one tile, unless all are kept
  TileFields<std::int32_t> exact_;
  runtime::Buffer<CoarseFields::Upper> table_, sums_;
  Flips flips_;
  bool started_ = false, near_ = false;
  States states_{}, before_{};
};

}  // namespace vfe::kernels::inline VFE_LEVEL
