// Linked in place of the CUDA twins when the package is built without CUDA.
#include "../cpp/runtime/errors.hpp"
#include "cuda.hpp"

namespace vfe::cuda {

Status status() {
  Status status;
  status.problem = "this build of vfe_fast has no CUDA; rebuild with VFE_CUDA=ON where nvcc is installed";
  return status;
}

const runtime::KernelTable& table() {
  throw TargetUnavailable("device='cuda': this version of vfe_fast has no CUDA kernels; besides, " + status().problem);
}

}  // namespace vfe::cuda
