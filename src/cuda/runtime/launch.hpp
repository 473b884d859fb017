// The way onto the device: every kernel is an object with what it needs, called by each thread of a grid.
//
//   struct Fill {
//     static constexpr int n_threads = 256;       // a block
//     struct Shared { float tile[256]; };         // if a block shares memory
//     float* out;
//     VFE_DEVICE void operator()(const Thread& thread) const { ... }
//   };
//   launch(Fill{out}, n_blocks);
#pragma once

#include <runtime/device.hpp>
#include <runtime/thread.hpp>

namespace vfe::cuda {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::n_threads) run_kernel(const __grid_constant__ Kernel kernel) {
  kernel(Thread());
}

template <class Kernel>
constexpr std::size_t shared_bytes() {
  if constexpr (requires { typename Kernel::Shared; }) {
    return sizeof(typename Kernel::Shared);
  } else {
    return 0;
  }
}

// On the calling thread's stream.
template <class Kernel>
void launch(const Kernel& kernel, std::int64_t n_blocks) {
  constexpr std::size_t shared = shared_bytes<Kernel>(), without_asking = 48 << 10;
  if (n_blocks == 0) return;
  if (n_blocks > max_blocks) throw std::length_error("CUDA: a grid of more than 2^31 - 1 blocks");
  if constexpr (shared > without_asking) {
    check(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
          "memory for a block");
  }
  void* arguments[] = {const_cast<Kernel*>(&kernel)};
  check(cudaLaunchKernel(run_kernel<Kernel>, dim3(static_cast<unsigned>(n_blocks)), dim3(Kernel::n_threads), arguments,
                         shared, stream()),
        "a kernel's start");
}

}  // namespace vfe::cuda
