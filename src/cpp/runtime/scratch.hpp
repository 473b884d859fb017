// Working memory of a kernel, aligned for the widest vectors. Defined out of line, so the files
// compiled for one instruction set carry no container code of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../numerics/config.hpp"

namespace vfe::runtime {

class Scratch {
 public:
  // Throws std::bad_alloc. The contents are undefined.
  explicit Scratch(std::size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }

 private:
  void* data_;
};

inline namespace VFE_LEVEL {

template <class T>
class Buffer {
 public:
  [[gnu::always_inline]] explicit Buffer(std::int64_t count)
      : scratch_(static_cast<std::size_t>(count) * sizeof(T)), data_(static_cast<T*>(scratch_.data())) {}
  [[gnu::always_inline]] T& operator[](std::int64_t k) const { return data_[k]; }
  [[gnu::always_inline]] T* data() const { return data_; }

 private:
  Scratch scratch_;
  T* data_;
};

}  // namespace VFE_LEVEL
}  // namespace vfe::runtime
