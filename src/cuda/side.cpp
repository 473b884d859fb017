#include <dlfcn.h>

#include <atomic>

#include "../cpp/runtime/errors.hpp"
#include "cuda.hpp"

namespace vfe::cuda {
namespace {

std::atomic<const Side*> in_use = &linked;
std::atomic<bool> usable = false;  // found so once; a device does not go away

}  // namespace

const Side& side() { return *in_use.load(std::memory_order_acquire); }

void use_library(const std::string& path) {
  const Side* found = &linked;
  if (!path.empty()) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw ArgumentError(std::string("path: expected a library with twins: ") + dlerror());
    found = static_cast<const Side*>(dlsym(library, "vfe_cuda_side"));
    if (found == nullptr) throw ArgumentError("path: expected a library with twins, got " + path);
  }
  usable.store(false, std::memory_order_release);
  in_use.store(found, std::memory_order_release);
}

const runtime::KernelTable& table() {
  if (!usable.load(std::memory_order_acquire)) {
    const Status found = side().status();
    if (!found.problem.empty()) throw TargetUnavailable("device='cuda': " + found.problem);
    usable.store(true, std::memory_order_release);
  }
  return *side().table;
}

}  // namespace vfe::cuda
