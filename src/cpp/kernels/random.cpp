#include "random.hpp"

#include "../numerics/uniform.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::philox_lanes;

constexpr std::int64_t chunk_blocks = 1 << 12;  // a multiple of philox_lanes

// How an element of each kind is made of the words of its block; `lane` picks the block.
struct WordsOut {
  using Element = std::uint32_t;
  static constexpr std::int64_t per_block = 4;
  VFE_HD static Element make(const std::uint32_t* words, std::int64_t k) { return words[k * philox_lanes]; }
};
struct FloatOut {
  using Element = float;
  static constexpr std::int64_t per_block = 4;
  VFE_HD static Element make(const std::uint32_t* words, std::int64_t k) {
    return numerics::uniform_float(words[k * philox_lanes]);
  }
};
struct DoubleOut {
  using Element = double;
  static constexpr std::int64_t per_block = 2;
  VFE_HD static Element make(const std::uint32_t* words, std::int64_t k) {
    return numerics::uniform_double(words[2 * k * philox_lanes], words[(2 * k + 1) * philox_lanes]);
  }
};

template <class Out>
void fill(const RandomArgs& args) {
  using Element = typename Out::Element;
  constexpr std::int64_t elements = philox_lanes * Out::per_block;
  const numerics::Key key = numerics::key_from(args.seed);
  const std::int64_t n_blocks = ceil_div(args.size, Out::per_block);
  const auto do_chunk = [&](std::int64_t task) {
    const std::int64_t begin = task * chunk_blocks;
    const std::int64_t end = begin + chunk_blocks < n_blocks ? begin + chunk_blocks : n_blocks;
    for (std::int64_t block = begin; block < end; block += philox_lanes) {
      std::uint32_t words[4 * philox_lanes];
      const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
      numerics::draw_lanes(numerics::draw_counter(low, high, 0, numerics::Stream::uniform), key, words);
      Element made[elements];
      for (std::int64_t lane = 0; lane < philox_lanes; ++lane) {
        for (std::int64_t k = 0; k < Out::per_block; ++k) made[lane * Out::per_block + k] = Out::make(words + lane, k);
      }
      Element* out = static_cast<Element*>(args.out) + block * Out::per_block;
      const std::int64_t left = args.size - block * Out::per_block;
      if (left >= elements) {
        for (std::int64_t k = 0; k < elements; ++k) out[k] = made[k];
      } else {
        for (std::int64_t k = 0; k < left; ++k) out[k] = made[k];
      }
    }
  };
  runtime::parallel_for(ceil_div(n_blocks, chunk_blocks), 4.0 * static_cast<double>(args.size), args.num_threads,
                        do_chunk);
}

}  // namespace

void random(const RandomArgs& args) {
  switch (args.draws) {
    case Draws::words:
      return fill<WordsOut>(args);
    case Draws::uniform_float32:
      return fill<FloatOut>(args);
    case Draws::uniform_float64:
      return fill<DoubleOut>(args);
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
