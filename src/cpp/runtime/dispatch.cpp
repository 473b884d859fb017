#include "dispatch.hpp"

#include <atomic>
#ifdef VFE_X86_LEVELS
#include <cpuid.h>
#endif

#include "../../cuda/cuda.hpp"
#include "errors.hpp"

namespace vfe::kernels {
// Defined in level_table.cpp, compiled once for each.
namespace baseline {
extern const runtime::KernelTable table;
}
#ifdef VFE_X86_LEVELS
namespace x86_64_v3 {
extern const runtime::KernelTable table;
}
namespace x86_64_v4 {
extern const runtime::KernelTable table;
}
#endif
}  // namespace vfe::kernels

namespace vfe::runtime {
namespace {

struct Target {
  const KernelTable* table;
  bool (*usable)();
};

#ifdef VFE_X86_LEVELS
// The features of the x86-64 psABI levels that the compiler may use.
bool has_v3() {
  __builtin_cpu_init();
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool lzcnt = __get_cpuid(0x80000001u, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_LZCNT) != 0;
  const bool basic = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0;
  return lzcnt && basic && (ecx & bit_MOVBE) != 0 && (ecx & bit_F16C) != 0 && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("sse4.2");
}
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const Target targets[] = {
#ifdef VFE_X86_LEVELS
    {&kernels::x86_64_v4::table, has_v4},
    {&kernels::x86_64_v3::table, has_v3},
#endif
    {&kernels::baseline::table, [] { return true; }},
};

std::atomic<const KernelTable*> chosen = nullptr;

const KernelTable& best() {
  for (const Target& target : targets) {
    if (target.usable()) return *target.table;
  }
  return kernels::baseline::table;
}

// Kernels that have a twin on the device, the others here.
KernelTable with_twins(const KernelTable& cuda, const KernelTable& cpu) {
  KernelTable both = cuda;
#define VFE_KERNEL(stem, Args) both.stem = cpu.stem;
#define VFE_TWINS(stem, Args)
#include "kernel_list.inc"
#undef VFE_KERNEL
  return both;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void choose_target(const std::string& name) {
  if (name == "cuda") {
    chosen.store(new KernelTable(with_twins(cuda::table(), best())), std::memory_order_release);  // for good
    return;
  }
  for (const Target& target : targets) {
    if (!name.empty() && name != target.table->target) continue;
    if (target.usable()) {
      chosen.store(target.table, std::memory_order_release);
      return;
    }
    if (!name.empty()) {
      throw TargetUnavailable("VFE_TARGET=" + name + ": this processor lacks it; it can run " + join(usable_targets()));
    }
  }
  throw TargetUnavailable("VFE_TARGET=" + name + ": not built; built are " + join(built_targets()) + ", and cuda");
}

const KernelTable& table(Device device) {
  return device == Device::cuda ? cuda::table() : *chosen.load(std::memory_order_acquire);
}

std::vector<std::string> built_targets() {
  std::vector<std::string> names;
  for (const Target& target : targets) names.emplace_back(target.table->target);
  return names;
}

std::vector<std::string> usable_targets() {
  std::vector<std::string> names;
  for (const Target& target : targets) {
    if (target.usable()) names.emplace_back(target.table->target);
  }
  return names;
}

}  // namespace vfe::runtime
