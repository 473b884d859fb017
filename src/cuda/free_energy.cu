// Free energies and means on the device, in two passes over as many states as there is room for the fields of. The
// first adds up fields, four inputs at a time, from sums that a block tabulates in shared memory; the second adds up
// softplus terms. All sums are in the order of the CPU kernel, so the results are the same bits.
//
// The first pass reads n_visible n_hidden / 4 numbers a state from shared memory, 128 bytes a cycle and multiprocessor,
// and adds each with three more instructions, of which four can start in a cycle.
#include "../cpp/kernels/free_energy.hpp"

#include <runtime/launch.hpp>

#include "../cpp/numerics/elementary.hpp"

namespace vfe::cuda {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Packed states, which are also read as 32-bit words: they lie in the same order.
struct States {
  const std::uint64_t* words;
  std::int64_t n_states, n_units;

  VFE_DEVICE std::uint32_t chunk(std::int64_t state, std::int64_t k) const {
    return reinterpret_cast<const std::uint32_t*>(words + state * ((n_units + 63) / 64))[k];
  }
};

// Fields of the hidden units, and their means. A lane adds up those of one unit in several states; a block has `tile`
// units, and its table serves all of its states.
template <class T, int states_of_warp>
struct FindFields {
  static constexpr int n_threads = 256, n_warps = n_threads / warp_size, tile = warp_size;
  static constexpr int chunk_inputs = 32, group_inputs = 4, groups = chunk_inputs / group_inputs;
  static constexpr int block_states = n_warps * states_of_warp;
  static_assert(groups == n_warps);  // a warp tabulates a group
  struct Shared {
    T sums[groups][16][tile];
  };
  States states;
  const T *weights, *bias;
  std::int64_t in_stride, out_stride, n_out, n_tiles;
  T beta;
  T *fields, *means;  // (n_states, n_out): null if not wanted

  VFE_DEVICE void operator()(const Thread& thread) const {
    auto& shared = thread.shared<Shared>();
    const std::int64_t unit = thread.block() % n_tiles * tile + thread.lane();
    // Few states are spread over the warps.
    const std::int64_t first = thread.block() / n_tiles * block_states + thread.warp();
    T x[states_of_warp];
    VFE_UNROLL
    for (int s = 0; s < states_of_warp; ++s) x[s] = unit < n_out ? bias[unit] : T(0);
    for (std::int64_t chunk = 0; chunk * chunk_inputs < states.n_units; ++chunk) {
      tabulate(thread, chunk, unit, shared);
      thread.barrier();
      if (first < states.n_states) {
        VFE_UNROLL
        for (int s = 0; s < states_of_warp; ++s) {
          const std::int64_t state = first + s * n_warps;
          const std::uint32_t bits = state < states.n_states ? states.chunk(state, chunk) : 0;
          VFE_UNROLL
          for (int g = 0; g < groups; g += 4) {
            T four[4];
            VFE_UNROLL
            for (int k = 0; k < 4; ++k) {
              four[k] = shared.sums[g + k][bits >> (group_inputs * (g + k)) & 15][thread.lane()];
            }
            x[s] += (four[0] + four[1]) + (four[2] + four[3]);
          }
        }
      }
      thread.barrier();
    }
    if (unit >= n_out) return;
    VFE_UNROLL
    for (int s = 0; s < states_of_warp; ++s) {
      const std::int64_t state = first + s * n_warps;
      if (state >= states.n_states) return;
      if (fields != nullptr) fields[state * n_out + unit] = x[s];
      if (means != nullptr) {
        const T decay = numerics::exp_negative(-beta * numerics::magnitude(x[s]));
        means[state * n_out + unit] = (x[s] < T(0) ? decay : T(1)) / (T(1) + decay);
      }
    }
  }

  // The sums of the weights of four inputs, as two pairs.
  VFE_DEVICE void tabulate(const Thread& thread, std::int64_t chunk, std::int64_t unit, Shared& shared) const {
    const int group = thread.warp();
    T weight[group_inputs];
    VFE_UNROLL
    for (int i = 0; i < group_inputs; ++i) {
      const std::int64_t in = chunk * chunk_inputs + group * group_inputs + i;
      weight[i] = in < states.n_units && unit < n_out ? weights[in * in_stride + unit * out_stride] : T(0);
    }
    const T low[] = {T(0), weight[0], weight[1], weight[0] + weight[1]};
    const T high[] = {T(0), weight[2], weight[3], weight[2] + weight[3]};
    VFE_UNROLL
    for (int m = 0; m < 16; ++m) shared.sums[group][m][thread.lane()] = low[m % 4] + high[m / 4];
  }
};

// Free energies from the fields. Eight lanes have a state: lane l adds up the terms of units l, l + 8, ..., and has a
// quarter of the groups of four visible biases if it is one of the first four.
template <class T>
struct SumSoftplus {
  static constexpr int n_threads = 256, lanes = 8, block_states = n_threads / lanes;
  static constexpr std::int64_t units_per_log = 512;
  States states;
  const T *fields, *visible_bias;
  std::int64_t n_out;
  double beta;
  T* free_energy;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t own = thread.block() * block_states + thread.index() / lanes;
    const std::int64_t state = own < states.n_states ? own : states.n_states - 1;  // all lanes meet
    const int lane = thread.index() % lanes, first_lane = thread.lane() - lane;
    const T of_fields = static_cast<T>(beta);
    double positive = 0, logs = 0;
    for (std::int64_t begin = 0; begin < n_out; begin += units_per_log) {
      double product = 1;
      for (std::int64_t unit = begin + lane; unit < begin + units_per_log && unit < n_out; unit += lanes) {
        const T x = fields[state * n_out + unit];
        product *= 1.0 + static_cast<double>(numerics::exp_negative(-of_fields * numerics::magnitude(x)));
        positive += static_cast<double>(x > T(0) ? x : T(0));
      }
      double all = 1;
      VFE_UNROLL
      for (int l = 0; l < lanes; ++l) all *= thread.shuffle(product, first_lane + l);
      logs += numerics::log(all);
    }
    double sum = logs / beta;
    VFE_UNROLL
    for (int l = 0; l < lanes; ++l) sum += thread.shuffle(positive, first_lane + l);

    const double part = lane < 4 ? visible_part(state, lane) : 0.0;
    double parts[4];
    VFE_UNROLL
    for (int l = 0; l < 4; ++l) parts[l] = thread.shuffle(part, first_lane + l);
    const double visible = (parts[0] + parts[1]) + (parts[2] + parts[3]);
    if (lane == 0 && own < states.n_states) free_energy[own] = static_cast<T>(-visible - sum);
  }

  VFE_DEVICE double visible_part(std::int64_t state, int lane) const {
    double part = 0;
    for (std::int64_t unit = 4 * lane; unit < states.n_units; unit += 16) {
      const std::uint32_t bits = states.chunk(state, unit / 32) >> (unit % 32);
      double of_group = 0;
      VFE_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (unit + i < states.n_units && (bits >> i & 1) != 0) {
          of_group += static_cast<double>(visible_bias[unit + i]);
        }
      }
      part += of_group;
    }
    return part;
  }
};

// The weights as the caller has them, so that they serve the machine with its layers exchanged, too.
template <class T>
struct Weights {
  DeviceBuffer<T> values;

  static void* make(const void* given) {
    const auto& rbm = *static_cast<const kernels::RbmView*>(given);
    const std::int64_t size = (rbm.n_visible - 1) * rbm.visible_stride + (rbm.n_hidden - 1) * rbm.hidden_stride + 1;
    DeviceBuffer<T> values(size);
    copy(values.data(), rbm.weights, static_cast<std::size_t>(size) * sizeof(T));
    wait();  // another stream may be the next to use them
    return new Weights{std::move(values)};
  }
  static void destroy(void* weights) {
    cudaDeviceSynchronize();  // another stream may use them
    delete static_cast<Weights*>(weights);
  }
  static const T* of(runtime::Cache& cache, const kernels::RbmView& rbm) {
    static constexpr char key = 0;
    return static_cast<const Weights*>(cache.of_weights().find_or_make(&key, make, destroy, &rbm))->values.data();
  }
};

template <class T, int states_of_warp>
void find_fields(const States& states, const T* weights, const T* bias, const kernels::RbmView& rbm, double beta,
                 T* fields, T* means) {
  using Kernel = FindFields<T, states_of_warp>;
  const std::int64_t n_tiles = ceil_div(rbm.n_hidden, Kernel::tile);
  launch(Kernel{states, weights, bias, rbm.visible_stride, rbm.hidden_stride, rbm.n_hidden, n_tiles,
                static_cast<T>(beta), fields, means},
         ceil_div(states.n_states, Kernel::block_states) * n_tiles);
}

template <class T>
void run(const kernels::FreeEnergyArgs& args) {
  const kernels::RbmView& rbm = args.rbm;
  if (args.n_states == 0) return;
  runtime::Cache used_once;
  const T* weights = Weights<T>::of(args.prepared != nullptr ? *args.prepared : used_once, rbm);
  on_device(weights);  // throws if they have been brought to another one
  const Input<T> visible_bias(static_cast<const T*>(rbm.visible_bias), rbm.n_visible),
      hidden_bias(static_cast<const T*>(rbm.hidden_bias), rbm.n_hidden);
  const std::int64_t words = ceil_div(rbm.n_visible, 64);
  const Input<std::uint64_t> visible(args.visible, args.n_states * words);
  const Output<T> energies(static_cast<T*>(args.free_energy), args.n_states),
      means(static_cast<T*>(args.mean_hidden), args.n_states * rbm.n_hidden);

  constexpr std::int64_t few = 1024;                  // states: more blocks of fewer of them keep the device busy
  constexpr std::int64_t fields_at_once = 1ll << 26;  // half a gigabyte at most, and some milliseconds
  constexpr std::int64_t states_at_least = 64;        // of wide models
  const std::int64_t fit = fields_at_once / rbm.n_hidden, room = fit > states_at_least ? fit : states_at_least;
  const std::int64_t at_once = room < args.n_states ? room : args.n_states;
  const DeviceBuffer<T> fields(energies.data() != nullptr ? at_once * rbm.n_hidden : 0);
  for (std::int64_t first = 0; first < args.n_states; first += at_once) {
    if (first > 0) wait();
    const States states{visible.data() + first * words,
                        args.n_states - first < at_once ? args.n_states - first : at_once, rbm.n_visible};
    T* means_out = means.data() != nullptr ? means.data() + first * rbm.n_hidden : nullptr;
    const auto find = states.n_states <= few ? find_fields<T, 4> : find_fields<T, 16>;
    find(states, weights, hidden_bias.data(), rbm, args.beta, fields.data(), means_out);
    if (energies.data() == nullptr) continue;
    using Sum = SumSoftplus<T>;
    launch(Sum{states, fields.data(), visible_bias.data(), rbm.n_hidden, args.beta, energies.data() + first},
           ceil_div(states.n_states, Sum::block_states));
  }
  energies.finish();
  means.finish();
}

}  // namespace

void free_energy(const kernels::FreeEnergyArgs& args) {
  args.rbm.real == kernels::Real::float32 ? run<float>(args) : run<double>(args);
}

}  // namespace vfe::cuda
