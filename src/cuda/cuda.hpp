// The CUDA side as the rest of the package sees it, built or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace vfe::runtime {
struct KernelTable;
}

namespace vfe::cuda {

struct Status {
  bool built = false;
  std::string toolkit;                     // version of the toolkit that compiled it
  std::vector<std::string> architectures;  // compiled for
  std::string driver;                      // newest CUDA version the driver supports; empty without a driver
  std::vector<std::string> devices;        // "name (compute capability)"
  std::string problem;                     // why device="cuda" cannot be used; empty if it can
};

// Of 0/1 states before they are packed; integers of either sign look alike.
enum class StateType { bits8, bits16, bits32, bits64, float32, float64 };

struct States {
  const void* data;  // (n_states, n_units)
  StateType type;
  std::int64_t n_states, n_units, state_stride, unit_stride;  // in bytes
};

struct Side {
  // Looks for a driver and devices when called, never at import. Does not throw.
  Status (*status)();
  // The twins of the CPU kernels; those that have none throw TargetUnavailable.
  const runtime::KernelTable* table;
  // Memory on the device in use; throws OutOfMemory. It is kept for the next one when it is let go.
  std::shared_ptr<void> (*allocate)(std::size_t bytes);
  // From and to anywhere; waits.
  void (*copy)(void* to, const void* from, std::size_t bytes);
  // States on the device to packed words there, and words to bytes. The first waits, and returns whether all were 0
  // or 1.
  bool (*pack)(const States& states, std::uint64_t* words);
  void (*unpack)(const std::uint64_t* words, std::int64_t n_states, std::int64_t n_units, std::uint8_t* states);
  // Where the calling thread's kernels and copies go from now on: a cudaStream_t, 0 for the default stream.
  void (*use_stream)(std::uintptr_t stream);
  std::uintptr_t (*stream)();
  // Has another stream wait for what this thread's stream has been given so far.
  void (*let_wait)(std::uintptr_t stream);
  // Tells that another stream uses memory that was allocated here: once it is let go, it is kept for none.
  void (*share)(const std::shared_ptr<void>& memory, std::uintptr_t stream);
  // The number of the device in use.
  int (*device)();
  // Gives idle memory back to the driver.
  void (*empty_cache)();
};

// What this module was linked with.
extern const Side linked;

// The one in use: `linked`, or that of a library (tests/cuda_on_host).
const Side& side();
void use_library(const std::string& path);

// The twins, for a caller who wants them: throws TargetUnavailable saying what is missing.
const runtime::KernelTable& table();

}  // namespace vfe::cuda
