#include "random.hpp"

#include "../numerics/uniform.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t chunk_blocks = 1 << 12;  // a multiple of block_lanes

using Words = std::uint32_t[4 * block_lanes];

// How the elements of 16 blocks are made of their words.
template <class T>
struct ElementsOf {
  using Element = T;
  static constexpr std::int64_t per_block = 16 / sizeof(T);
  static constexpr numerics::Stream stream = numerics::Stream::uniform;

  VFE_HD static void make(const Words& words, Element (&made)[per_block * block_lanes]) {
    for (std::int64_t lane = 0; lane < block_lanes; ++lane) {
      for (std::int64_t k = 0; k < per_block; ++k) made[lane * per_block + k] = element(words + lane, k);
    }
  }
  VFE_HD static Element element(const std::uint32_t* of_block, std::int64_t k) {
    if constexpr (std::is_same_v<T, double>) {
      return numerics::uniform_double(of_block[2 * k * block_lanes], of_block[(2 * k + 1) * block_lanes]);
    } else if constexpr (std::is_same_v<T, float>) {
      return numerics::uniform_float(of_block[k * block_lanes]);
    } else {
      return of_block[k * block_lanes];
    }
  }
};
template <class T>
struct NormalsOf {
  using Element = T;
  static constexpr std::int64_t per_block = numerics::block_normals<T>;
  static constexpr numerics::Stream stream = numerics::Stream::normal;

  VFE_HD static void make(const Words& words, Element (&made)[per_block * block_lanes]) { normal_lanes(words, made); }
};

template <class Out>
void fill(const RandomArgs& args) {
  using Element = typename Out::Element;
  constexpr std::int64_t elements = block_lanes * Out::per_block;
  const numerics::Key key = numerics::key_from(args.seed);
  const std::int64_t n_blocks = ceil_div(args.size, Out::per_block);
  const auto do_chunk = [&](std::int64_t task) {
    const std::int64_t begin = task * chunk_blocks;
    const std::int64_t end = begin + chunk_blocks < n_blocks ? begin + chunk_blocks : n_blocks;
    for (std::int64_t block = begin; block < end; block += block_lanes) {
      Words words;
      const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
      draw_lanes(numerics::draw_counter(low, high, 0, Out::stream), key, words);
      Element made[elements];
      Out::make(words, made);
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
      return fill<ElementsOf<std::uint32_t>>(args);
    case Draws::uniform_float32:
      return fill<ElementsOf<float>>(args);
    case Draws::uniform_float64:
      return fill<ElementsOf<double>>(args);
    case Draws::normal_float32:
      return fill<NormalsOf<float>>(args);
    case Draws::normal_float64:
      return fill<NormalsOf<double>>(args);
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
