#include "free_energy.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"
#include "bit_dot.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t max_block_states = 256;
constexpr std::int64_t lanes = 8;
constexpr std::int64_t outputs_per_log = 512;  // a lane multiplies 64 factors <= 2: 8 lanes stay below 2^512

// sum_j max(x_j, 0) and ln prod_j (1 + e^(-beta |x_j|)), strip by strip.
struct SoftplusSum {
  double positive[lanes], product[lanes];
  double logs;

  VFE_HD void start() {
    for (std::int64_t l = 0; l < lanes; ++l) {
      positive[l] = 0;
      product[l] = 1;
    }
    logs = 0;
  }
  // decay = e^(-beta |x|), rectified = max(x, 0)
  template <class T>
  VFE_HD void add_strip(const T* decay, const T* rectified) {
    for (std::int64_t l0 = 0; l0 < strip_width<T>; l0 += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) product[l] *= 1.0 + static_cast<double>(decay[l0 + l]);
      for (std::int64_t l = 0; l < lanes; ++l) positive[l] += static_cast<double>(rectified[l0 + l]);
    }
  }
  VFE_HD void take_log() {
    double all = 1;
    for (std::int64_t l = 0; l < lanes; ++l) {
      all *= product[l];
      product[l] = 1;
    }
    logs += numerics::log(all);
  }
  VFE_HD double value(double beta) {
    take_log();
    double sum = logs / beta;
    for (std::int64_t l = 0; l < lanes; ++l) sum += positive[l];
    return sum;
  }
};

// What is kept of a model: the weights into the hidden layer, and the visible biases.
template <class T>
struct Fields {
  BitLayer<T> layer;
  BitDot visible_dot;

  Fields(const RbmView& rbm, int num_threads)
      : layer(rbm.n_visible, rbm.n_hidden), visible_dot(static_cast<const T*>(rbm.visible_bias), rbm.n_visible) {
    const auto fill = [&](std::int64_t strip) {
      fill_strip<T>(layer, rbm, strip, [](T value, std::int64_t) { return value; });
      // Padding adds nothing to a sum of softplus.
      for (std::int64_t l = layer.width_of(strip); l < strip_width<T>; ++l) {
        layer.bias[strip * strip_width<T> + l] = -std::numeric_limits<T>::infinity();
      }
    };
    const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
    runtime::parallel_for(layer.n_strips, n_weights, num_threads, fill);
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
  constexpr std::int64_t full = strip_width<T>;
  const std::int64_t n_hidden = args.rbm.n_hidden, words = words_for(args.rbm.n_visible);
  const T beta = static_cast<T>(args.beta);
  runtime::Cache used_once;
  runtime::Cache& cache = args.prepared != nullptr ? *args.prepared : used_once;
  const char* key = args.exchanged ? &exchanged_key : &as_given_key;
  const auto& model = *static_cast<const Fields<T>*>(
      cache.of_parameters().find_or_make(key, Fields<T>::make, Fields<T>::destroy, &args));
  const BitLayer<T>& layer = model.layer;
  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(n_hidden);
  const double nanoseconds = static_cast<double>(args.n_states) * (n_weights / 128.0 + static_cast<double>(n_hidden));
  const std::int64_t block_states =
      runtime::items_per_task(args.n_states, max_block_states, nanoseconds, args.num_threads);
  const auto do_block = [&](std::int64_t task) {
    const std::int64_t first = task * block_states;
    const std::int64_t n_states = args.n_states - first < block_states ? args.n_states - first : block_states;
    const std::uint64_t* states = args.visible + first * words;
    const runtime::Buffer<T> fields(n_states * tile_width);
    TileFields<T> tile_fields(layer, n_states);
    tile_fields.start({states, n_states, words, 1});
    const runtime::Buffer<SoftplusSum> sums(args.free_energy != nullptr ? n_states : 0);
    if (args.free_energy != nullptr) {
      for (std::int64_t s = 0; s < n_states; ++s) sums[s].start();
    }
    for (std::int64_t tile = 0; tile < layer.n_tiles; ++tile) {
      runtime::check_interrupt();
      tile_fields.find(tile, fields.data());
      for (std::int64_t j = tile * tile_width; j < n_hidden && j < (tile + 1) * tile_width; j += full) {
        const std::int64_t width = n_hidden - j < full ? n_hidden - j : full;
        for (std::int64_t s = 0; s < n_states; ++s) {
          const T* x = fields.data() + j % tile_width * n_states + s * full;
          T decay[full];
          for (std::int64_t l = 0; l < full; ++l) decay[l] = numerics::exp_negative(-beta * numerics::magnitude(x[l]));
          if (args.free_energy != nullptr) {
            T rectified[full];
            for (std::int64_t l = 0; l < full; ++l) rectified[l] = x[l] > T(0) ? x[l] : T(0);
            SoftplusSum sum = sums[s];
            sum.add_strip(decay, rectified);
            sums[s] = sum;
            if ((j + full) % outputs_per_log == 0) sums[s].take_log();
          }
          if (args.mean_hidden != nullptr) {
            T mean[full];
            for (std::int64_t l = 0; l < full; ++l) mean[l] = (x[l] < T(0) ? decay[l] : T(1)) / (T(1) + decay[l]);
            T* out = static_cast<T*>(args.mean_hidden) + (first + s) * n_hidden + j;
            if (width == full) {
              for (std::int64_t l = 0; l < full; ++l) out[l] = mean[l];
            } else {
              for (std::int64_t l = 0; l < width; ++l) out[l] = mean[l];
            }
          }
        }
      }
    }
    if (args.free_energy == nullptr) return;
    for (std::int64_t s = 0; s < n_states; ++s) {
      const double value = -model.visible_dot.with({states, n_states, words, 1}, s) - sums[s].value(args.beta);
      static_cast<T*>(args.free_energy)[first + s] = static_cast<T>(value);
    }
  };
  runtime::parallel_for(ceil_div(args.n_states, block_states), nanoseconds, args.num_threads, do_block);
}

}  // namespace

void free_energy(const FreeEnergyArgs& args) { args.rbm.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
