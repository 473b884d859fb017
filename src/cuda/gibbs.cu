// A half step of block Gibbs sampling on the device. Two kernels: by the matrix unit, and without (before compute
// capability 8.0). States are packed bits, chain first, as in the arguments; here they are also read as bytes and as
// 32-bit words, which lie in the same order.
#include <vector>

#include "../cpp/kernels/gibbs.hpp"
#include "../cpp/numerics/bernoulli.hpp"
#include "layer.hpp"

namespace vfe::cuda {
namespace {

using numerics::Stream;

// What both kernels need: from the states of one layer to those of the other.
struct HalfStep {
  std::int64_t n_in, n_out, n_tiles, n_chains;
  const std::uint8_t* weights;
  const double *unit, *bias;
  const double* betas;  // of each chain; null if `beta` is that of all
  double beta;
  bool in_range;
  numerics::Key key;
  std::int64_t first_chain;
  std::uint64_t step;
  Stream draws, ties;
  const std::uint8_t *from, *clamped, *kept;  // clamped: null if there are none
  std::uint8_t* to;
  bool clamped_of_each;

  VFE_DEVICE std::int64_t in_bytes() const { return (n_in + 63) / 64 * 8; }
  VFE_DEVICE std::int64_t out_bytes() const { return n_tiles * 8; }
  VFE_DEVICE std::uint32_t word(std::int64_t chain, std::int64_t chunk) const {
    return reinterpret_cast<const std::uint32_t*>(from + chain * in_bytes())[chunk];
  }
  VFE_DEVICE numerics::Words4 words(std::int64_t unit_of_tile, std::int64_t tile, std::int64_t chain) const {
    const auto block = static_cast<std::uint32_t>(16 * tile + unit_of_tile % 16);
    return philox4x32(numerics::draw_counter(block, static_cast<std::uint32_t>(number(chain) / 2), step, draws), key);
  }
  VFE_DEVICE std::int64_t number(std::int64_t chain) const { return first_chain + chain; }

  // The state of a unit, given its sum of integer weights and its random word.
  VFE_DEVICE bool drawn(std::int64_t chain, std::int64_t unit_out, std::int32_t sum, std::uint32_t random) const {
    const double of_chain = betas != nullptr ? betas[chain] : beta;
    const numerics::FieldScale scale = in_range ? numerics::field_scale<false>(of_chain, unit[unit_out], bias[unit_out])
                                                : numerics::field_scale<true>(of_chain, unit[unit_out], bias[unit_out]);
    const float x = static_cast<float>(sum) * scale.factor + scale.offset;
    const auto of_draw = static_cast<std::uint32_t>(number(chain));
    return numerics::bernoulli(x, numerics::leading_bits(random, of_draw), [&] {
      const auto counter = numerics::draw_counter(static_cast<std::uint32_t>(unit_out), of_draw, step, ties);
      return numerics::philox4x32(counter, key);
    });
  }

  // Writes eight units of a chain, those that are clamped as they were.
  VFE_DEVICE void put(std::int64_t chain, std::int64_t byte, std::uint32_t bits) const {
    if (clamped != nullptr) {
      const std::uint32_t mask = clamped[(clamped_of_each ? chain : 0) * out_bytes() + byte];
      bits = (bits & ~mask) | (kept[chain * out_bytes() + byte] & mask);
    }
    to[chain * out_bytes() + byte] = static_cast<std::uint8_t>(bits);
  }
};

// Without the matrix unit: a warp draws 32 units of 16 chains. A weight is read once for all of them.
struct DrawByRows {
  static constexpr int n_threads = 256, chains = 16;
  HalfStep half;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t n_halves = 2 * half.n_tiles, k = thread.block() * (n_threads / warp_size) + thread.warp();
    const std::int64_t tile = k % n_halves / 2, first = k / n_halves * chains;
    if (first >= half.n_chains) return;
    const std::int64_t of_tile = k % 2 * warp_size + thread.lane(), unit = tile * tile_units + of_tile;
    const auto* row = reinterpret_cast<const std::int32_t*>(half.weights) + unit;
    std::int32_t sum[chains] = {};
    for (std::int64_t begin = 0; begin < half.n_in; begin += 32) {
      std::uint32_t bits[chains];
      VFE_UNROLL
      for (int c = 0; c < chains; ++c) bits[c] = first + c < half.n_chains ? half.word(first + c, begin / 32) : 0;
      for (std::int64_t in = begin; in < begin + 32 && in < half.n_in; ++in, row += half.n_tiles * tile_units) {
        const std::int32_t weight = *row;
        VFE_UNROLL
        for (int c = 0; c < chains; ++c) {
          sum[c] += weight & -static_cast<std::int32_t>(bits[c] & 1);
          bits[c] >>= 1;
        }
      }
    }
    VFE_UNROLL
    for (int c = 0; c < chains; ++c) {
      const std::int64_t chain = first + c;
      if (chain >= half.n_chains) return;
      const numerics::Words4 words = half.words(of_tile, tile, chain);
      std::uint32_t random = 0;
      VFE_UNROLL
      for (int q = 0; q < 4; ++q) random = of_tile / 16 == q ? words.word[q] : random;  // by an index: through memory
      const bool on = unit < half.n_out && half.drawn(chain, unit, sum[c], random);
      const std::uint32_t state = thread.ballot(on);
      if (thread.lane() < 4) half.put(chain, tile * 8 + k % 2 * 4 + thread.lane(), state >> (8 * thread.lane()) & 0xFF);
    }
  }
};

// By the matrix unit: a warp draws 32 units (16 q + 8 half + column of a tile) of 32 chains. Integer weights are four
// bytes, the sums of each exact in 32 bits; together they are the sum of the weights, as that fits 32 bits.
//
// Row r of a matrix is chain 2 r of its 16, rows 8 + r chain 2 r + 1, so that a lane holds both chains and all four
// units that a Philox block serves.
struct DrawByMatrices {
  static constexpr int n_threads = 256, groups = n_threads / warp_size / 2;
  static constexpr int chains = 32, matrices = chains / 16, block_chains = groups * chains;
  HalfStep half;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t tile = thread.block() % half.n_tiles;
    const int side = thread.warp() % 2, g = thread.lane() / 4, t = thread.lane() % 4;
    // Pairs of chains have even numbers first, so the first chain may be one before those of the call.
    const std::int64_t group = thread.block() / half.n_tiles * groups + thread.warp() / 2;
    const std::int64_t first = group * chains - half.first_chain % 2;
    if (first >= half.n_chains) return;

    std::int32_t sums[matrices][4][4][4] = {};  // of each q and byte
    add_all(thread, tile, side, first + 2 * g, t, sums);

    // Bit 2 t + k of the byte of units 16 q + 8 side.
    std::uint32_t bytes[matrices][2] = {};  // of each chain of a pair; byte q
    VFE_UNROLL
    for (int m = 0; m < matrices; ++m) {
      const std::int64_t chain = first + 16 * m + 2 * g;
      VFE_UNROLL
      for (int k = 0; k < 2; ++k) {
        const int column = 8 * side + 2 * t + k;
        const numerics::Words4 words = half.words(column, tile, chain);
        VFE_UNROLL
        for (int q = 0; q < 4; ++q) {
          const std::int64_t unit = tile * tile_units + 16 * q + column;
          VFE_UNROLL
          for (int other = 0; other < 2; ++other) {
            const std::int32_t (&of)[4][4] = sums[m][q];
            const int r = 2 * other + k;
            const std::uint32_t high = static_cast<std::uint32_t>(of[3][r]) << 8, low = of[1][r];
            const auto sum = static_cast<std::int32_t>(((high + of[2][r]) << 16) + (low << 8) + of[0][r]);
            if (unit >= half.n_out || chain + other < 0 || chain + other >= half.n_chains) continue;
            const bool on = half.drawn(chain + other, unit, sum, words.word[q]);
            bytes[m][other] |= static_cast<std::uint32_t>(on) << (8 * q + 2 * t + k);
          }
        }
      }
    }
    VFE_UNROLL
    for (int m = 0; m < matrices; ++m) {
      VFE_UNROLL
      for (int other = 0; other < 2; ++other) {
        std::uint32_t& of = bytes[m][other];
        of |= thread.shuffle_xor(of, 1);
        of |= thread.shuffle_xor(of, 2);
        const std::int64_t chain = first + 16 * m + 2 * g + other;
        if (chain < 0 || chain >= half.n_chains) continue;
        half.put(chain, tile * 8 + 2 * t + side, of >> (8 * t) & 0xFF);  // lane t takes q = t
      }
    }
  }

  VFE_DEVICE void add_all(const Thread& thread, std::int64_t tile, int side, std::int64_t chain, int t,
                          std::int32_t (&sums)[matrices][4][4][4]) const {
    struct alignas(16) Quad {
      std::uint32_t of[4];
    };
    const auto* fragments =
        reinterpret_cast<const Quad*>(half.weights) + (tile * 2 + side) * 8 * warp_size + thread.lane();
    for (std::int64_t chunk = 0; chunk < (half.n_in + 31) / 32; ++chunk, fragments += half.n_tiles * 16 * warp_size) {
      std::uint32_t a[matrices][4];
      VFE_UNROLL
      for (int m = 0; m < matrices; ++m) {
        VFE_UNROLL
        for (int other = 0; other < 2; ++other) {
          const std::int64_t of = chain + 16 * m + other;
          const std::uint32_t bits = of >= 0 && of < half.n_chains ? half.word(of, chunk) >> (4 * t) : 0;
          a[m][other] = spread(bits);
          a[m][2 + other] = spread(bits >> 16);
        }
      }
      VFE_UNROLL
      for (int q = 0; q < 4; ++q) {
        const Quad low = fragments[2 * q * warp_size], high = fragments[(2 * q + 1) * warp_size];
        VFE_UNROLL
        for (int m = 0; m < matrices; ++m) {
          thread.multiply_bytes<false>(sums[m][q][0], a[m], {low.of[0], low.of[1]});
          thread.multiply_bytes<false>(sums[m][q][1], a[m], {low.of[2], low.of[3]});
          thread.multiply_bytes<false>(sums[m][q][2], a[m], {high.of[0], high.of[1]});
          thread.multiply_bytes<true>(sums[m][q][3], a[m], {high.of[2], high.of[3]});
        }
      }
    }
  }

  // Four bits as four bytes.
  VFE_DEVICE static std::uint32_t spread(std::uint32_t bits) { return ((bits & 0xF) * 0x00204081u) & 0x01010101u; }
};

// What is kept of a model's weights, and of its biases, between calls.
struct Context {
  const kernels::RbmView& rbm;
  Form form;
};

void* make_layers(const void* given) {
  const auto& context = *static_cast<const Context*>(given);
  const auto of = [&]<class T>(T) {
    return context.form == Form::rows ? Layers::of<Form::rows, T>(context.rbm)
                                      : Layers::of<Form::fragments, T>(context.rbm);
  };
  return new Layers(context.rbm.real == kernels::Real::float32 ? of(0.0f) : of(0.0));
}

// Another stream may use it.
template <class T>
void destroy(void* kept) {
  cudaDeviceSynchronize();
  delete static_cast<T*>(kept);
}

const Layers& layers_of(runtime::Cache& cache, const kernels::RbmView& rbm, Form form) {
  static constexpr char key[2] = {};
  const Context context{rbm, form};
  return *static_cast<const Layers*>(
      cache.of_weights().find_or_make(&key[form == Form::rows ? 0 : 1], make_layers, destroy<Layers>, &context));
}

// The biases of a layer as float64, on the device, and the largest of them.
struct Biases {
  DeviceBuffer<double> values;
  double largest = 0;

  Biases(kernels::Real real, const void* biases, std::int64_t count) : values(count) {
    std::vector<double> wide(static_cast<std::size_t>(count));
    for (std::size_t j = 0; j < wide.size(); ++j) {
      wide[j] = real == kernels::Real::float32 ? static_cast<double>(static_cast<const float*>(biases)[j])
                                               : static_cast<const double*>(biases)[j];
      largest = numerics::magnitude(wide[j]) > largest ? numerics::magnitude(wide[j]) : largest;
    }
    copy(values.data(), wide.data(), wide.size() * sizeof(double));
    wait();
  }
};

struct BothBiases {
  Biases hidden, visible;

  explicit BothBiases(const kernels::RbmView& rbm)
      : hidden(rbm.real, rbm.hidden_bias, rbm.n_hidden), visible(rbm.real, rbm.visible_bias, rbm.n_visible) {}

  static const BothBiases& of(runtime::Cache& cache, const kernels::RbmView& rbm) {
    static constexpr char key = 0;
    const auto make = [](const void* given) -> void* {
      return new BothBiases(*static_cast<const kernels::RbmView*>(given));
    };
    return *static_cast<const BothBiases*>(cache.of_parameters().find_or_make(&key, make, destroy<BothBiases>, &rbm));
  }
};

int compute_capability() {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, current_device()), "the device's generation");
  return major;
}

}  // namespace

void gibbs(const kernels::GibbsArgs& args) {
  const kernels::RbmView& rbm = args.rbm;
  const Form form = compute_capability() >= 8 ? Form::fragments : Form::rows;
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const Layers& layers = layers_of(cache, rbm, form);
  const BothBiases& biases = BothBiases::of(cache, rbm);
  // Throws if they have been made on another device.
  for (const double* kept : {layers.to_hidden.unit.data(), biases.hidden.values.data()}) on_device(kept);
  const std::int64_t visible_words = ceil_div(rbm.n_visible, 64), hidden_words = ceil_div(rbm.n_hidden, 64);
  const Input<std::uint64_t> start(args.start, args.n_chains * visible_words);
  const Input<std::uint64_t> clamped(args.clamped, args.n_clamped * visible_words);
  const Input<double> betas(args.n_betas > 1 ? args.beta : nullptr, args.n_betas);
  const Output<std::uint64_t> visible(args.visible, args.n_chains * visible_words);
  const Output<std::uint64_t> hidden(args.hidden, args.n_chains * hidden_words);
  double largest_beta = 0;
  for (std::int64_t k = 0; k < args.n_betas; ++k)
    largest_beta = args.beta[k] > largest_beta ? args.beta[k] : largest_beta;

  const auto bytes = [](const std::uint64_t* words) { return reinterpret_cast<const std::uint8_t*>(words); };
  const auto half_step = [&](const Layer& layer, const Biases& of_layer, const std::uint64_t* from, std::uint64_t* to,
                             std::int64_t step, bool into_visible) {
    const HalfStep half{layer.n_in,
                        layer.n_out,
                        layer.n_tiles,
                        args.n_chains,
                        layer.weights.data(),
                        layer.unit.data(),
                        of_layer.values.data(),
                        betas.data(),
                        args.beta[0],
                        numerics::fields_in_range(largest_beta, layer.largest, of_layer.largest),
                        numerics::key_from(args.seed),
                        args.first_chain,
                        static_cast<std::uint64_t>(args.first_step + step),
                        into_visible ? Stream::gibbs_visible : Stream::gibbs_hidden,
                        into_visible ? Stream::gibbs_visible_tie : Stream::gibbs_hidden_tie,
                        bytes(from),
                        into_visible ? bytes(clamped.data()) : nullptr,
                        bytes(start.data()),
                        reinterpret_cast<std::uint8_t*>(to),
                        args.n_clamped > 1};
    if (form == Form::rows) {
      const std::int64_t n_warps = ceil_div(args.n_chains, DrawByRows::chains) * 2 * layer.n_tiles;
      launch(DrawByRows{half}, ceil_div(n_warps, DrawByRows::n_threads / warp_size));
    } else {
      const std::int64_t n_chains = args.n_chains + args.first_chain % 2;
      launch(DrawByMatrices{half}, ceil_div(n_chains, DrawByMatrices::block_chains) * layer.n_tiles);
    }
  };
  constexpr std::int64_t steps_before_looking = 256;
  for (std::int64_t t = 0; t < args.n_steps; ++t) {
    half_step(layers.to_hidden, biases.hidden, t == 0 ? start.data() : visible.data(), hidden.data(), t, false);
    half_step(layers.to_visible, biases.visible, hidden.data(), visible.data(), t, true);
    if (t % steps_before_looking == steps_before_looking - 1) wait();
  }
  hidden.finish();
  visible.finish();
}

}  // namespace vfe::cuda
