// A stand-in for CUDA's own header: what src/cuda uses of its runtime, on a processor. "Device" memory is the
// process's, filled with ones and fenced, so that what was never written, or lies beside an array, shows; work is done
// when it is asked for; a grid is run by grid.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "grid.hpp"

#define __host__
#define __device__
#define __global__
#define __forceinline__ [[gnu::always_inline]] inline
#define __launch_bounds__(...)
#define __grid_constant__

#define CUDART_VERSION 13000
#define VFE_CUDA_ARCHITECTURES "host"

enum cudaError_t {
  cudaSuccess,
  cudaErrorMemoryAllocation,
  cudaErrorInvalidValue,
  cudaErrorNoDevice,
  cudaErrorNotReady
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaMemcpyKind { cudaMemcpyDefault };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrComputeCapabilityMajor };
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
struct cudaDeviceProp {
  const char* name;
  int major, minor;
};
struct Stream;
struct Event;
using cudaStream_t = Stream*;
using cudaEvent_t = Event*;
constexpr unsigned cudaEventDisableTiming = 2;
struct dim3 {
  explicit dim3(unsigned count) : x(count) {}
  unsigned x;
};

cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer);

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid value";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
// What the tests want to be in use.
inline cudaError_t cudaGetDevice(int* device) {
  const char* number = std::getenv("VFE_ON_HOST_DEVICE");
  return *device = number != nullptr ? std::atoi(number) : 0, cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  return *properties = {"cuda-on-host", 9, 0}, cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const char* capability = std::getenv("VFE_ON_HOST_CAPABILITY");  // what the tests want it to be
  const int major = capability != nullptr ? std::atoi(capability) : 9;
  return *value = attribute == cudaDevAttrMultiProcessorCount ? 3 : major, cudaSuccess;
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(void (*)(Kernel), cudaFuncAttribute, std::size_t bytes) {
  return bytes <= vfe::cuda::host::most_shared_bytes ? cudaSuccess : cudaErrorInvalidValue;
}

template <class Kernel>
cudaError_t cudaLaunchKernel(void (*kernel)(Kernel), dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t) {
  struct Call {
    void (*kernel)(Kernel);
    const Kernel& argument;
  } const call{kernel, *static_cast<const Kernel*>(arguments[0])};
  vfe::cuda::host::run_grid(
      grid.x, static_cast<int>(block.x), shared_bytes,
      [](const void* context) {
        const Call& of_grid = *static_cast<const Call*>(context);
        of_grid.kernel(of_grid.argument);
      },
      &call);
  return cudaSuccess;
}
