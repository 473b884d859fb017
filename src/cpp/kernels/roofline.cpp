#include "roofline.hpp"

#include <time.h>

#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "lanes.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
constexpr bool has_fma = true;
#else
constexpr bool has_fma = false;
#endif

VFE_HD double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class V>
VFE_HD void keep(V& value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(value));
#else
  asm volatile("" : "+w"(value));
#endif
}

// Six chains of each kind hide the latency and fit 16 registers; none feeds another, so nothing fuses.
template <class T>
VFE_HD double mul_add(std::int64_t repetitions) {
  using V = Vector<T>;
  V product[6], sum[6];
  V m = V{} + T(1) + T(1e-6), a = V{} + T(1e-6);
  for (int k = 0; k < 6; ++k) product[k] = sum[k] = V{} + T(1);
  keep(m);
  keep(a);
  for (std::int64_t r = 0; r < repetitions; ++r) {
    VFE_UNROLL
    for (int k = 0; k < 6; ++k) {
      product[k] *= m;
      sum[k] += a;
      keep(product[k]);
      keep(sum[k]);
    }
  }
  return 12.0 * static_cast<double>(vector_bytes / sizeof(T)) * static_cast<double>(repetitions);
}

template <class T>
VFE_HD double fused(std::int64_t repetitions) {
  using V = Vector<T>;
  V sum[12];
  V m = V{} + T(1) - T(1e-6), a = V{} + T(1e-6);
  for (int k = 0; k < 12; ++k) sum[k] = V{} + T(1);
  keep(m);
  keep(a);
  for (std::int64_t r = 0; r < repetitions; ++r) {
    VFE_UNROLL
    for (int k = 0; k < 12; ++k) {
      sum[k] = sum[k] * m + a;  // this file is compiled with contraction on
      keep(sum[k]);
    }
  }
  return has_fma ? 24.0 * static_cast<double>(vector_bytes / sizeof(T)) * static_cast<double>(repetitions) : 0.0;
}

using Wide = Vector<double>;

VFE_HD double read(const Wide* data, std::int64_t count) {
  Wide sum[8] = {};
  for (std::int64_t k = 0; k + 8 <= count; k += 8) {
    VFE_UNROLL
    for (int u = 0; u < 8; ++u) sum[u] += data[k + u];
  }
  for (int u = 0; u < 8; ++u) keep(sum[u]);
  return static_cast<double>(count * vector_bytes);
}

VFE_HD double write(Wide* data, std::int64_t count) {
  Wide value = {};
  keep(value);
  for (std::int64_t k = 0; k < count; ++k) {
    data[k] = value;
    if (k % 64 == 0) asm volatile("" ::: "memory");
  }
  return static_cast<double>(count * vector_bytes);
}

VFE_HD double copy(Wide* to, const Wide* from, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) {
    to[k] = from[k];
    if (k % 64 == 0) asm volatile("" ::: "memory");
  }
  return 2.0 * static_cast<double>(count * vector_bytes);
}

VFE_HD double philox(std::int64_t repetitions) {
  using namespace numerics;
  std::uint32_t words[4 * block_lanes], mixed[4 * block_lanes] = {};
  for (std::int64_t r = 0; r < repetitions; ++r) {
    draw_lanes({{0, static_cast<std::uint32_t>(r), 2, 3}}, {4, 5}, words);
    for (std::uint32_t k = 0; k < 4 * block_lanes; ++k) mixed[k] ^= words[k];
  }
  asm volatile("" ::"r"(mixed) : "memory");
  return 4.0 * block_lanes * static_cast<double>(repetitions);
}

}  // namespace

void roofline(const RooflineArgs& args) {
  const runtime::Buffer<double> rates(args.num_threads);
  const std::int64_t count = args.bytes / vector_bytes;
  const auto probe = [&](std::int64_t task) {
    const bool memory = args.probe == Probe::read || args.probe == Probe::write || args.probe == Probe::copy;
    const runtime::Buffer<Wide> data(memory ? count : 0), target(args.probe == Probe::copy ? count : 0);
    if (memory) write(data.data(), count);
    if (args.probe == Probe::copy) write(target.data(), count);
    constexpr std::int64_t repetitions = 20000;
    double done = 0, elapsed = 0;
    const double begin = now();
    while (elapsed < args.seconds) {
      runtime::check_interrupt();
      switch (args.probe) {
        case Probe::mul_add_float32:
          done += mul_add<float>(repetitions);
          break;
        case Probe::mul_add_float64:
          done += mul_add<double>(repetitions);
          break;
        case Probe::fma_float32:
          done += fused<float>(repetitions);
          break;
        case Probe::fma_float64:
          done += fused<double>(repetitions);
          break;
        case Probe::read:
          done += read(data.data(), count);
          break;
        case Probe::write:
          done += write(data.data(), count);
          break;
        case Probe::copy:
          done += copy(target.data(), data.data(), count);
          break;
        case Probe::philox:
          done += philox(repetitions);
          break;
      }
      elapsed = now() - begin;
    }
    rates[task] = done / elapsed;
  };
  runtime::parallel_for(args.num_threads, 1e12, args.num_threads, probe);
  *args.rate = 0;
  for (int t = 0; t < args.num_threads; ++t) *args.rate += rates[t];
}

}  // namespace vfe::kernels::inline VFE_LEVEL
