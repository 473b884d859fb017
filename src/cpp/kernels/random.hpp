// Arrays of random words, uniform and normal numbers.
//
// Block k of the array is philox4x32({low word of k, high word of k, step 0, stream}). Words and uniform numbers, of
// Stream::uniform: four consecutive elements (two of float64) come from one block, in order. Normal numbers,
// of Stream::normal: element e is number (e / 16) % 4 of block 16 (e / 64) + e % 16 (float64: (e / 16) % 2 of
// 16 (e / 32) + e % 16). So the result does not depend on num_threads.
#pragma once

#include "../numerics/philox.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

enum class Draws { words, uniform_float32, uniform_float64, normal_float32, normal_float64 };

struct RandomArgs {
  Draws draws;
  std::uint64_t seed;
  std::int64_t size;
  void* out;  // (size,) of uint32, float32 or float64
  int num_threads;
};

inline void check(const RandomArgs& args) {
  if (args.size < 0) throw ArgumentError("size: expected size >= 0, got " + std::to_string(args.size));
}

}  // namespace vfe::kernels
