// What device code may use of the machine: where a thread is, and the few operations in which threads meet. It sees
// nothing else of CUDA, so that tests/cuda_on_host can run the same sources on a processor, lane by lane.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#define VFE_DEVICE __device__ __forceinline__

namespace vfe::cuda {

constexpr int warp_size = 32;

// a b + c, rounded once.
VFE_DEVICE double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

class Thread {
 public:
  VFE_DEVICE std::int64_t block() const { return blockIdx.x; }
  VFE_DEVICE std::int64_t n_blocks() const { return gridDim.x; }
  VFE_DEVICE int index() const { return static_cast<int>(threadIdx.x); }
  VFE_DEVICE int lane() const { return index() % warp_size; }
  VFE_DEVICE int warp() const { return index() / warp_size; }

  // Memory that the threads of a block share, with what is left of the block before in it.
  template <class Shared>
  VFE_DEVICE Shared& shared() const {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    return *reinterpret_cast<Shared*>(shared_memory);
  }

  // All threads of the block, or of the warp, meet; what one wrote before, all others see behind.
  VFE_DEVICE void barrier() const { __syncthreads(); }
  VFE_DEVICE void warp_barrier() const { __syncwarp(); }

  // All lanes of a warp meet.
  template <class T>
  VFE_DEVICE T shuffle(T x, int from) const {
    return __shfl_sync(all_lanes, x, from);
  }
  template <class T>
  VFE_DEVICE T shuffle_xor(T x, int mask) const {
    return __shfl_xor_sync(all_lanes, x, mask);
  }
  VFE_DEVICE std::uint32_t ballot(bool x) const { return __ballot_sync(all_lanes, x); }

  // c += a b by the matrix unit. Lane l holds, with g = l / 4 and t = l % 4 (PTX ISA, "Matrix Fragments"):
  //   a (16 x 32, bytes):  byte k of a[r] is row g + 8 (r % 2), column 4 t + k + 16 (r / 2)
  //   b (32 x 8, bytes):   byte k of b[r] is row 4 t + k + 16 r, column g
  //   c (16 x 8, int32):   c[r] is row g + 8 (r / 2), column 2 t + r % 2
  // Bytes of a are unsigned; those of b are signed, or not.
  template <bool b_signed>
  VFE_DEVICE void multiply_bytes(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) const {
#if __CUDA_ARCH__ >= 800
    if constexpr (b_signed) {
      asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    } else {
      asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
#else
    __trap();  // this generation has no such unit: the host chooses another kernel
#endif
  }

  // The same of float64, with fused operations; before compute capability 8.0 by shuffles:
  //   a (8 x 4): row g, column t;   b (4 x 8): row t, column g;   c (8 x 8): c[r] is row g, column 2 t + r
  VFE_DEVICE void multiply_doubles(double (&c)[2], double a, double b) const {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+d"(c[0]), "+d"(c[1])
        : "d"(a), "d"(b));
#else
    for (int k = 0; k < 4; ++k) {
      const double of_row = shuffle(a, lane() / 4 * 4 + k);
      for (int r = 0; r < 2; ++r) c[r] = __fma_rn(of_row, shuffle(b, (lane() % 4 * 2 + r) * 4 + k), c[r]);
    }
#endif
  }

 private:
  static constexpr unsigned all_lanes = 0xFFFFFFFF;
};

}  // namespace vfe::cuda
