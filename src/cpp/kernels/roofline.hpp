// What this machine can do: the peaks that the benchmarks hold the other kernels against. Each probe
// runs on every thread at once and reports operations, bytes or words a second over all of them.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

enum class Probe {
  mul_add_float32,  // independent multiplications and additions, half of each: flop/s
  mul_add_float64,
  fma_float32,  // fused multiply-add, two flops each; 0 where the instruction set has none
  fma_float64,
  read,  // bytes/s over `bytes` a thread
  write,
  copy,    // bytes read + bytes written
  philox,  // 32-bit words/s
};

struct RooflineArgs {
  Probe probe;
  double seconds;      // how long to run, at least
  std::int64_t bytes;  // working set of a thread, for read, write and copy
  double* rate;        // out
  int num_threads;
};

inline void check(const RooflineArgs& args) {
  if (!(args.seconds > 0 && args.seconds <= 60)) {
    throw ArgumentError("seconds: expected 0 < seconds <= 60, got " + std::to_string(args.seconds));
  }
  if (args.bytes < 4096) throw ArgumentError("bytes: expected bytes >= 4096, got " + std::to_string(args.bytes));
}

}  // namespace vfe::kernels
