#include "free_energy.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t max_block_states = 128;
constexpr std::int64_t lanes = 8;
constexpr std::int64_t tiles_per_log = 8;  // a lane multiplies 8 factors <= 2 a tile: 8 lanes stay below 2^512

// sum_j max(x_j, 0) and ln prod_j (1 + e^(-beta |x_j|)), tile by tile.
struct SoftplusSum {
  double positive[lanes] = {}, product[lanes] = {1, 1, 1, 1, 1, 1, 1, 1};
  double logs = 0;
  std::int64_t tiles = 0;

  template <class T>
  VFE_HD void add_tile(const T* decay, const T* x, std::int64_t width) {  // decay = e^(-beta |x|)
    for (std::int64_t l0 = 0; l0 < width; l0 += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) {
        const bool real = l0 + l < width;
        product[l] *= real ? 1.0 + static_cast<double>(decay[l0 + l]) : 1.0;
        positive[l] += real && x[l0 + l] > T(0) ? static_cast<double>(x[l0 + l]) : 0.0;
      }
    }
    if (++tiles % tiles_per_log == 0) flush();
  }
  VFE_HD void flush() {
    double all = 1;
    for (std::int64_t l = 0; l < lanes; ++l) {
      all *= product[l];
      product[l] = 1;
    }
    logs += numerics::log(all);
  }
  VFE_HD double value(double beta) {
    flush();
    double sum = logs / beta;
    for (std::int64_t l = 0; l < lanes; ++l) sum += positive[l];
    return sum;
  }
};

template <class T>
VFE_HD double dot_bits(const T* values, std::int64_t n_values, const std::uint64_t* bits) {
  double sum = 0;
  for (std::int64_t w = 0; w < words_for(n_values); ++w) {
    const std::int64_t width = n_values - w * word_bits;
    const std::uint64_t used = width < word_bits ? (std::uint64_t{1} << width) - 1 : ~std::uint64_t{0};
    for (std::uint64_t left = bits[w] & used; left != 0; left &= left - 1) {
      sum += static_cast<double>(values[w * word_bits + __builtin_ctzll(left)]);
    }
  }
  return sum;
}

// The weights into the hidden layer, prepared once for any number of calls with the same parameters.
template <class T>
struct Fields {
  BitLayer<T> layer;

  Fields(const RbmView& rbm, int num_threads) : layer(rbm.n_visible, rbm.n_hidden) {
    const auto fill = [&](std::int64_t tile) {
      fill_tile<T>(layer, rbm, tile, [](T value, std::int64_t) { return value; });
    };
    const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
    runtime::parallel_for(layer.n_tiles, n_weights, num_threads, fill);
  }

  static void* make(const void* context) {
    const auto& args = *static_cast<const FreeEnergyArgs*>(context);
    return new Fields(args.rbm, args.num_threads);
  }
  static void destroy(void* fields) { delete static_cast<Fields*>(fields); }
};

// Their addresses name the entries: the machine as given, and with its layers exchanged.
constexpr char as_given_key = 0, exchanged_key = 1;

template <class T>
void run(const FreeEnergyArgs& args) {
  const RbmView& rbm = args.rbm;
  const T* visible_bias = static_cast<const T*>(rbm.visible_bias);
  const std::int64_t words = words_for(rbm.n_visible);
  const T beta = static_cast<T>(args.beta);
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const char* key = args.exchanged ? &exchanged_key : &as_given_key;
  const auto* fields_of =
      static_cast<const Fields<T>*>(cache.find_or_make(key, Fields<T>::make, Fields<T>::destroy, &args));
  const BitLayer<T>& layer = fields_of->layer;
  const std::int64_t fair_share = ceil_div(args.n_states, args.num_threads);
  const std::int64_t block_states =
      fair_share < max_block_states ? (fair_share > 0 ? fair_share : 1) : max_block_states;
  const auto do_block = [&](std::int64_t task) {
    const std::int64_t first = task * block_states;
    const std::int64_t n_states = args.n_states - first < block_states ? args.n_states - first : block_states;
    const std::uint64_t* states = args.visible + first * words;
    const runtime::Buffer<T> fields(n_states * tile_width), table(table_size);
    const runtime::Buffer<SoftplusSum> sums(n_states);
    for (std::int64_t s = 0; s < n_states; ++s) sums[s] = SoftplusSum();
    for (std::int64_t tile = 0; tile < layer.n_tiles; ++tile) {
      runtime::check_interrupt();
      tile_fields(layer, tile, states, n_states, fields.data(), table.data());
      const std::int64_t width =
          rbm.n_hidden - tile * tile_width < tile_width ? rbm.n_hidden - tile * tile_width : tile_width;
      for (std::int64_t s = 0; s < n_states; ++s) {
        T x[tile_width], decay[tile_width];
        for (std::int64_t l = 0; l < tile_width; ++l) {
          x[l] = fields[s * tile_width + l];
          decay[l] = numerics::exp_negative(-beta * numerics::magnitude(x[l]));
        }
        if (args.free_energy != nullptr) sums[s].add_tile(decay, x, width);
        if (args.mean_hidden != nullptr) {
          T mean[tile_width];
          for (std::int64_t l = 0; l < tile_width; ++l) {
            mean[l] = (x[l] < T(0) ? decay[l] : T(1)) / (T(1) + decay[l]);
          }
          T* out = static_cast<T*>(args.mean_hidden) + (first + s) * rbm.n_hidden + tile * tile_width;
          for (std::int64_t l = 0; l < width; ++l) out[l] = mean[l];
        }
      }
    }
    if (args.free_energy == nullptr) return;
    for (std::int64_t s = 0; s < n_states; ++s) {
      const double value = -dot_bits(visible_bias, rbm.n_visible, states + s * words) - sums[s].value(args.beta);
      static_cast<T*>(args.free_energy)[first + s] = static_cast<T>(value);
    }
  };
  const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
  const double work = static_cast<double>(args.n_states) * (n_weights / 32.0 + static_cast<double>(rbm.n_hidden) * 4.0);
  runtime::parallel_for(ceil_div(args.n_states, block_states), work, args.num_threads, do_block);
}

}  // namespace

void free_energy(const FreeEnergyArgs& args) { args.rbm.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
