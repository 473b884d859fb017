// Linked in place of the CUDA twins when the package is built without CUDA.
#include "../cpp/runtime/errors.hpp"
#include "cuda.hpp"

namespace vfe::cuda {
namespace {

constexpr const char* problem = "this build of vfe_fast has no CUDA; rebuild with VFE_CUDA=ON where nvcc is installed";

Status status() {
  Status status;
  status.problem = problem;
  return status;
}

}  // namespace

const Side linked = {
    status,
    nullptr,
    [](std::size_t) -> std::shared_ptr<void> { throw TargetUnavailable(std::string("device='cuda': ") + problem); },
    [](void*, const void*, std::size_t) { throw TargetUnavailable(std::string("device='cuda': ") + problem); },
    [](std::uintptr_t) {},
    [] {},
};

}  // namespace vfe::cuda
