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

[[noreturn]] void refuse() { throw TargetUnavailable(std::string("device='cuda': ") + problem); }

}  // namespace

const Side linked = {
    status,
    nullptr,
    [](std::size_t) -> std::shared_ptr<void> { refuse(); },
    [](void*, const void*, std::size_t) { refuse(); },
    [](const States&, std::uint64_t*) -> bool { refuse(); },
    [](const std::uint64_t*, std::int64_t, std::int64_t, std::uint8_t*) { refuse(); },
    [](std::uintptr_t) { refuse(); },
    []() -> std::uintptr_t { refuse(); },
    [](std::uintptr_t) { refuse(); },
    [](const std::shared_ptr<void>&, std::uintptr_t) { refuse(); },
    []() -> int { refuse(); },
    [] {},
};

}  // namespace vfe::cuda
