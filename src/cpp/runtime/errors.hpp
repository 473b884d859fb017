// The exceptions that leave C++: the bindings turn each into one Python class.
#pragma once

#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace vfe {

// A wrong shape, range or value -> ValueError. The message names the argument, what was expected in
// symbols, and what came.
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A wrong dtype or kind of object -> TypeError.
struct ArgumentTypeError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A device or instruction set that this build or this machine lacks -> TargetUnavailableError.
struct TargetUnavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// No memory left on a device -> MemoryError.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// The caller asked to stop (Ctrl-C); the pending Python exception says why.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

}  // namespace vfe
