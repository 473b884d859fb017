#include <runtime/device.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../cpp/runtime/errors.hpp"
#include "../../cpp/runtime/threads.hpp"

namespace vfe::cuda {
namespace {

thread_local cudaStream_t stream_of_thread = nullptr;

// Blocks that were let go, for who comes next on the same stream of the same device.
struct Idle {
  void* data;
  std::size_t bytes;
  int device;
  cudaStream_t stream;
};
constexpr std::size_t most_idle_bytes = std::size_t{1} << 30, granule = 512;

// VFE_CUDA_CACHE=0: every block is new and of the size asked for, so that who watches memory sees where arrays end.
bool keeps_blocks() {
  static const bool keeps = [] {
    const char* given = std::getenv("VFE_CUDA_CACHE");
    return given == nullptr || std::string(given) != "0";
  }();
  return keeps;
}

std::mutex mutex;
std::vector<Idle> idle;
std::size_t idle_bytes = 0;

// The smallest block that fits without wasting more than half of it.
void* take_idle(std::size_t bytes, int device, cudaStream_t stream, std::size_t& taken) {
  const std::lock_guard lock(mutex);
  auto best = idle.end();
  for (auto block = idle.begin(); block != idle.end(); ++block) {
    if (block->device != device || block->stream != stream || block->bytes < bytes || block->bytes / 2 > bytes)
      continue;
    if (best == idle.end() || block->bytes < best->bytes) best = block;
  }
  if (best == idle.end()) return nullptr;
  void* data = best->data;
  taken = best->bytes;
  idle_bytes -= best->bytes;
  *best = idle.back();
  idle.pop_back();
  return data;
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not report it again
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(std::string("CUDA: no memory left for ") + what);
  throw std::runtime_error(std::string("CUDA: ") + what + " failed: " + cudaGetErrorString(error));
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "the device in use");
  return device;
}

cudaStream_t stream() { return stream_of_thread; }

void use_stream(std::uintptr_t handle) { stream_of_thread = reinterpret_cast<cudaStream_t>(handle); }

void let_wait(std::uintptr_t handle) {
  const auto other = reinterpret_cast<cudaStream_t>(handle);
  if (other == stream()) return;
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
  cudaError_t error = cudaEventRecord(event, stream());
  if (error == cudaSuccess) error = cudaStreamWaitEvent(other, event, 0);
  cudaEventDestroy(event);  // once it has happened
  check(error, "waiting for a stream");
}

// Short kernels are waited for awake: a sleep takes 50 microseconds at least. Longer ones cost 1 / 16 at most.
void wait() {
  using Clock = std::chrono::steady_clock;
  const std::chrono::microseconds awake(200), most(1000);
  const Clock::time_point begin = Clock::now();
  for (;;) {
    const cudaError_t state = cudaStreamQuery(stream());
    if (state != cudaErrorNotReady) return check(state, "a kernel");
    runtime::check_interrupt();
    const auto waited = Clock::now() - begin;
    if (waited > awake) std::this_thread::sleep_for(std::min<Clock::duration>(waited / 16, most));
  }
}

bool on_device(const void* pointer) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged) return false;
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != current_device()) {
    throw ArgumentError("device: expected arrays and models on CUDA device " + std::to_string(current_device()) +
                        ", which is in use, got one on device " + std::to_string(attributes.device));
  }
  return true;
}

Memory::Memory(std::size_t bytes)
    : bytes_(keeps_blocks() ? (bytes + granule - 1) / granule * granule : bytes),
      device_(current_device()),
      stream_(cuda::stream()) {
  if (bytes_ == 0) return;
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_, &capturing), "the stream");
  if (capturing != cudaStreamCaptureStatusNone) {
    throw std::runtime_error("CUDA: the kernels of vfe_fast cannot be captured in a graph: they allocate memory");
  }
  data_ = take_idle(bytes_, device_, stream_, bytes_);
  if (data_ != nullptr) return;
  cudaError_t error = cudaMalloc(&data_, bytes_);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    empty_cache();
    error = cudaMalloc(&data_, bytes_);
  }
  check(error, (std::to_string(bytes) + " bytes on the device").c_str());
}

Memory::~Memory() {
  if (data_ == nullptr) return;
  if (keeps_blocks() && !shared_) {
    const std::lock_guard lock(mutex);
    if (idle_bytes + bytes_ <= most_idle_bytes) {
      try {
        idle.push_back({data_, bytes_, device_, stream_});
        idle_bytes += bytes_;
        return;
      } catch (const std::bad_alloc&) {
      }
    }
  }
  cudaFree(data_);  // waits for the kernels that use it
}

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_),
      device_(other.device_),
      stream_(other.stream_),
      shared_(other.shared_) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(device_, other.device_);
  std::swap(stream_, other.stream_);
  std::swap(shared_, other.shared_);
  return *this;
}

void empty_cache() {
  std::vector<Idle> blocks;
  {
    const std::lock_guard lock(mutex);
    blocks.swap(idle);
    idle_bytes = 0;
  }
  for (const Idle& block : blocks) cudaFree(block.data);
}

void copy(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream()), "a copy");
}

}  // namespace vfe::cuda
