// What the rest of the package gets: the state of CUDA on this machine, the twins, memory.
#include <runtime/device.hpp>

#include "../../cpp/runtime/dispatch.hpp"
#include "../cuda.hpp"

namespace vfe::cuda {

#define VFE_KERNEL(stem, Args)
#define VFE_TWINS(stem, Args) void stem(const kernels::Args&);
#include "../../cpp/runtime/kernel_list.inc"
#undef VFE_KERNEL

bool pack(const States& states, std::uint64_t* words);
void unpack(const std::uint64_t* words, std::int64_t n_states, std::int64_t n_units, std::uint8_t* states);

namespace {

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::vector<std::string> compiled_for() {
  std::vector<std::string> names;
  const std::string list = VFE_CUDA_ARCHITECTURES;  // "80-90"
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = list.find('-', begin);
    names.push_back(list.substr(begin, end - begin));
    begin = end == std::string::npos ? list.size() : end + 1;
  }
  return names;
}

Status status() {
  Status status;
  status.built = true;
  status.toolkit = version(CUDART_VERSION);
  status.architectures = compiled_for();
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
  return status;
}

[[noreturn]] void no_twin(const char* stem) {
  throw TargetUnavailable(std::string("device='cuda': the kernel '") + stem + "' has no CUDA twin");
}

const runtime::KernelTable twins = {
    "cuda",
    "cuda",
#define VFE_KERNEL(stem, Args) [](const kernels::Args&) { no_twin(#stem); },
#define VFE_TWINS(stem, Args) &stem,
#include "../../cpp/runtime/kernel_list.inc"
#undef VFE_KERNEL
};

struct Held {
  std::shared_ptr<Memory> memory;
  void operator()(void*) { memory.reset(); }
};

std::shared_ptr<void> allocate(std::size_t bytes) {
  const auto memory = std::make_shared<Memory>(bytes);
  return {memory->data(), Held{memory}};
}

void share(const std::shared_ptr<void>& memory, std::uintptr_t stream) {
  std::get_deleter<Held>(memory)->memory->share_with(reinterpret_cast<cudaStream_t>(stream));
}

void copy_and_wait(void* to, const void* from, std::size_t bytes) {
  copy(to, from, bytes);
  wait();
}

}  // namespace

const Side linked = {
    status,   &twins, allocate,       copy_and_wait,
    pack,     unpack, use_stream,     [] { return reinterpret_cast<std::uintptr_t>(stream()); },
    let_wait, share,  current_device, empty_cache,
};

}  // namespace vfe::cuda
