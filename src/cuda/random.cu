#include <runtime/launch.hpp>

#include "../cpp/kernels/random.hpp"
#include "../cpp/numerics/normal.hpp"
#include "../cpp/numerics/uniform.hpp"

namespace vfe::cuda {
namespace {

using kernels::Draws;
using numerics::Stream;

constexpr std::int64_t group_blocks = 16;  // the elements of normal numbers go around so many Philox blocks

// A thread makes the elements of one Philox block.
template <class T, bool normal>
struct Fill {
  static constexpr int n_threads = 256;
  static constexpr std::int64_t per_block = 16 / sizeof(T);
  numerics::Key key;
  std::int64_t size, first;  // blocks before those of this grid
  T* out;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t block = first + thread.block() * n_threads + thread.index();
    const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
    const Stream stream = normal ? Stream::normal : Stream::uniform;
    const numerics::Words4 words = philox4x32(numerics::draw_counter(low, high, 0, stream), key);
    T made[per_block];
    make(words, made);
    // Normal numbers: element k of lane l of a group of blocks; others: one after the other.
    const std::int64_t lane = block % group_blocks;
    const std::int64_t begin = normal ? (block - lane) * per_block + lane : block * per_block;
    constexpr std::int64_t step = normal ? group_blocks : 1;
    VFE_UNROLL
    for (int k = 0; k < per_block; ++k) {
      if (begin + k * step < size) out[begin + k * step] = made[k];
    }
  }

  VFE_DEVICE static void make(const numerics::Words4& words, T (&made)[per_block]) {
    const std::uint32_t (&w)[4] = words.word;
    if constexpr (normal && sizeof(T) == 4) {
      const auto first_pair = numerics::normal_pair(w[0], w[1]), second = numerics::normal_pair(w[2], w[3]);
      made[0] = first_pair.first, made[1] = first_pair.second, made[2] = second.first, made[3] = second.second;
    } else if constexpr (normal) {
      const auto pair = numerics::normal_pair(w[0], w[1], w[2], w[3]);
      made[0] = pair.first, made[1] = pair.second;
    } else if constexpr (std::is_same_v<T, double>) {
      made[0] = numerics::uniform_double(w[0], w[1]), made[1] = numerics::uniform_double(w[2], w[3]);
    } else {
      VFE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (std::is_same_v<T, float>) {
          made[k] = numerics::uniform_float(w[k]);
        } else {
          made[k] = w[k];
        }
      }
    }
  }
};

template <class T, bool normal>
void fill(const kernels::RandomArgs& args) {
  using Kernel = Fill<T, normal>;
  const Output<T> out(static_cast<T*>(args.out), args.size);
  // Normal numbers: whole groups of blocks, whose last elements may lie in the first of them.
  constexpr std::int64_t group = (normal ? group_blocks : 1) * Kernel::per_block;
  const std::int64_t needed = (args.size + group - 1) / group * (group / Kernel::per_block);
  constexpr std::int64_t most = max_blocks / 2 * Kernel::n_threads;
  for (std::int64_t first = 0; first < needed; first += most) {
    const std::int64_t count = needed - first < most ? needed - first : most;
    launch(Kernel{numerics::key_from(args.seed), args.size, first, out.data()},
           (count + Kernel::n_threads - 1) / Kernel::n_threads);
  }
  out.finish();
}

}  // namespace

void random(const kernels::RandomArgs& args) {
  switch (args.draws) {
    case Draws::words:
      return fill<std::uint32_t, false>(args);
    case Draws::uniform_float32:
      return fill<float, false>(args);
    case Draws::uniform_float64:
      return fill<double, false>(args);
    case Draws::normal_float32:
      return fill<float, true>(args);
    case Draws::normal_float64:
      return fill<double, true>(args);
  }
}

}  // namespace vfe::cuda
