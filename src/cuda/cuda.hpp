// The CUDA side as the rest of the package sees it, built or not.
#pragma once

#include <string>
#include <vector>

namespace vfe::runtime {
struct KernelTable;
}

namespace vfe::cuda {

struct Status {
  bool built = false;
  std::string toolkit;               // version of the toolkit that compiled it
  std::string driver;                // newest CUDA version the driver supports; empty without a driver
  std::vector<std::string> devices;  // "name (compute capability)"
  std::string problem;               // why device="cuda" cannot be used; empty if it can
};

// Looks for a driver and devices when called, never at import. Does not throw.
Status status();

// The twins of the CPU kernels. Throws TargetUnavailable saying what is missing.
const runtime::KernelTable& table();

}  // namespace vfe::cuda
