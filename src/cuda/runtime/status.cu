// What CUDA finds on this machine. The kernels' twins are not written yet: table() says so.
#include <cuda_runtime.h>

#include "../../cpp/runtime/errors.hpp"
#include "../cuda.hpp"

namespace vfe::cuda {
namespace {

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

Status status() {
  Status status;
  status.built = true;
  status.toolkit = version(CUDART_VERSION);
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    status.problem = "no CUDA driver is installed";
    return status;
  }
  status.driver = version(driver);
  if (driver < CUDART_VERSION / 1000 * 1000) {
    status.problem =
        "the driver is too old: it supports CUDA " + status.driver + ", this build needs " + status.toolkit;
    return status;
  }
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    status.problem =
        std::string("no CUDA device: ") + cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error);
    return status;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) continue;
    status.devices.push_back(std::string(properties.name) + " (" + std::to_string(properties.major) + "." +
                             std::to_string(properties.minor) + ")");
  }
  status.problem = "there is nothing to run on it";
  return status;
}

const runtime::KernelTable& table() {
  throw TargetUnavailable("device='cuda': this version of vfe_fast has no CUDA kernels; besides, " + status().problem);
}

}  // namespace vfe::cuda
