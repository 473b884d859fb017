#include "random.hpp"

#include "../numerics/uniform.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t chunk_runs = 16;  // of so many groups: a task

// How the elements of 16 blocks are made of their words.
template <class T>
struct ElementsOf {
  using Element = T;
  static constexpr std::int64_t per_block = 16 / sizeof(T);
  static constexpr numerics::Stream stream = numerics::Stream::uniform;

  VFE_HD static void make(const std::uint32_t* __restrict words, Element* __restrict made, std::int64_t n_groups) {
    constexpr std::int64_t group = block_lanes * per_block;
    for (std::int64_t g = 0; g < n_groups; ++g) make_group(words + g * group_words, made + g * group);
  }
  VFE_HD static void make_group(const std::uint32_t* __restrict words, Element* __restrict made) {
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

  VFE_HD static void make(const std::uint32_t* words, Element* made, std::int64_t n_groups) {
    normal_lanes(words, made, n_groups);
  }
};

template <class Out>
void fill(const RandomArgs& args) {
  using Element = typename Out::Element;
  constexpr std::int64_t group = block_lanes * Out::per_block, run = groups_together * group;  // elements
  const numerics::Key key = numerics::key_from(args.seed);
  const auto do_chunk = [&](std::int64_t task) {
    alignas(64) std::uint32_t words[groups_together * group_words];
    alignas(64) Element rest[group];
    const std::int64_t begin = task * chunk_runs * run;
    for (std::int64_t first = begin; first < begin + chunk_runs * run && first < args.size; first += run) {
      const std::int64_t left = args.size - first, n_groups = left < run ? ceil_div(left, group) : groups_together;
      for (std::int64_t g = 0; g < n_groups; ++g) {
        const std::int64_t block = first / Out::per_block + g * block_lanes;
        const auto low = static_cast<std::uint32_t>(block), high = static_cast<std::uint32_t>(block >> 32);
        draw_lanes(numerics::draw_counter(low, high, 0, Out::stream), key, words + g * group_words);
      }
      Element* out = static_cast<Element*>(args.out) + first;
      const std::int64_t full = left < run ? left / group : groups_together;
      Out::make(words, out, full);
      if (full < n_groups) {
        Out::make(words + full * group_words, rest, 1);
        for (std::int64_t k = 0; k < left - full * group; ++k) out[full * group + k] = rest[k];
      }
    }
  };
  runtime::parallel_for(ceil_div(args.size, chunk_runs * run), 2.0 * static_cast<double>(args.size), args.num_threads,
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
