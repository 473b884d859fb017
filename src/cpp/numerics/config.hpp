// What lets one source serve both twins and every instruction set.
//
// VFE_HD marks a function that runs on the host and on a CUDA device; it is always inlined, so no
// copy compiled for one instruction set can be picked by the linker for another.
// VFE_LEVEL names the instruction set a file is compiled for; everything here lives in an inline
// namespace of that name for the same reason.
//
// This directory is the only place with `#ifdef __CUDACC__`.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define VFE_HD __host__ __device__ __forceinline__
#define VFE_UNROLL _Pragma("unroll")
#else
#define VFE_HD [[gnu::always_inline]] inline
#define VFE_UNROLL _Pragma("GCC unroll 16")
#endif

#ifdef __FAST_MATH__
#error "fast-math gives other bits on every instruction set: build without it"
#endif

#ifndef VFE_LEVEL
#define VFE_LEVEL common
#endif
