// Memory on the device, and the caller's arrays there.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace vfe::cuda {

constexpr std::int64_t max_blocks = 0x7FFFFFFF;

// Throws unless it is cudaSuccess: OutOfMemory, or a runtime_error that says what failed.
void check(cudaError_t error, const char* what);

// Where the calling thread's kernels and copies go.
cudaStream_t stream();

void use_stream(std::uintptr_t handle);

// Has another stream wait for what they have been given so far.
void let_wait(std::uintptr_t handle);

int current_device();

// Waits for them, letting the caller stop meanwhile.
void wait();

// Whether a pointer is to memory of the device in use; throws for memory of another device.
bool on_device(const void* pointer);

// Memory on the device, kept for the next one when it is let go.
class Memory {
 public:
  Memory() = default;
  explicit Memory(std::size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return data_; }

  // Tells that what is given to another stream uses it, too.
  void share_with(cudaStream_t other) { shared_ = shared_ || other != stream_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  int device_ = 0;
  cudaStream_t stream_ = nullptr;  // that uses it
  bool shared_ = false;            // by others
};

template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::int64_t count) : memory_(static_cast<std::size_t>(count) * sizeof(T)) {}
  T* data() const { return static_cast<T*>(memory_.data()); }

 private:
  Memory memory_;
};

// Gives idle memory back.
void empty_cache();

// From and to anywhere, without waiting.
void copy(void* to, const void* from, std::size_t bytes);

// An array of the caller that a kernel reads: where it is if that is on the device, else a copy.
template <class T>
class Input {
 public:
  Input(const T* data, std::int64_t count) : data_(data) {
    if (data == nullptr || count == 0 || on_device(data)) return;
    copy_ = DeviceBuffer<T>(count);
    copy(copy_.data(), data, static_cast<std::size_t>(count) * sizeof(T));
    data_ = copy_.data();
  }
  const T* data() const { return data_; }

 private:
  const T* data_;
  DeviceBuffer<T> copy_;
};

// One that a kernel writes: in place on the device, or to be brought back by finish().
template <class T>
class Output {
 public:
  Output(T* data, std::int64_t count) : count_(count), data_(data) {
    if (data == nullptr || count == 0 || on_device(data)) return;
    copy_ = DeviceBuffer<T>(count);
    host_ = data;
    data_ = copy_.data();
  }
  T* data() const { return data_; }
  // Waits for all that was begun before if the array is not on the device.
  void finish() const {
    if (host_ == nullptr) return;
    copy(host_, data_, static_cast<std::size_t>(count_) * sizeof(T));
    wait();
  }

 private:
  std::int64_t count_;
  T *data_, *host_ = nullptr;
  DeviceBuffer<T> copy_;
};

}  // namespace vfe::cuda
