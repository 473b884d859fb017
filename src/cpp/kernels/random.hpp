// Arrays of random words and uniform numbers.
//
// Four consecutive elements (two of float64) come from one Philox block: block k of the array is
// philox4x32({low word of k, high word of k, step 0, Stream::uniform}). Element order is memory order,
// so the result does not depend on num_threads.
#pragma once

#include "../numerics/philox.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

enum class Draws { words, uniform_float32, uniform_float64 };

struct RandomArgs {
  Draws draws;
  std::uint64_t seed;
  std::int64_t size;
  void* out;  // (size,) of uint32, float32 or float64
  int num_threads;
};

inline void check(const RandomArgs&) {}

}  // namespace vfe::kernels
