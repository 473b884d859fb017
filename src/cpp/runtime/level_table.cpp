// Compiled with the kernels, once for each instruction set: the table of that set's copies.
#include "dispatch.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

#define VFE_KERNEL(stem, Args) void stem(const Args&);
#include "kernel_list.inc"
#undef VFE_KERNEL

// What the compiler says it compiles for, so that a lost flag shows.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define VFE_COMPILED_FOR "x86-64-v4"
#elif defined(__AVX2__) && defined(__FMA__)
#define VFE_COMPILED_FOR "x86-64-v3"
#else
#define VFE_COMPILED_FOR "baseline"
#endif

extern const runtime::KernelTable table;
const runtime::KernelTable table = {
    VFE_LEVEL_NAME,
    VFE_COMPILED_FOR,
#define VFE_KERNEL(stem, Args) &stem,
#include "kernel_list.inc"
#undef VFE_KERNEL
};

}  // namespace vfe::kernels::inline VFE_LEVEL
