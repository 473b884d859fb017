// Which compiled copy of a kernel runs: one table an instruction set, chosen once at import.
#pragma once

#include <string>
#include <vector>

#include "../kernels/anneal.hpp"
#include "../kernels/ascend.hpp"
#include "../kernels/contrast.hpp"
#include "../kernels/cumulants.hpp"
#include "../kernels/elementwise.hpp"
#include "../kernels/exact_ising.hpp"
#include "../kernels/exact_rbm.hpp"
#include "../kernels/flat_histogram.hpp"
#include "../kernels/free_energy.hpp"
#include "../kernels/gaussian_gibbs.hpp"
#include "../kernels/gibbs.hpp"
#include "../kernels/hamiltonian.hpp"
#include "../kernels/likelihood.hpp"
#include "../kernels/pair_sums.hpp"
#include "../kernels/product.hpp"
#include "../kernels/random.hpp"
#include "../kernels/reparam.hpp"
#include "../kernels/roofline.hpp"

namespace vfe::runtime {

struct KernelTable {
  const char* target;        // its name in VFE_TARGET
  const char* compiled_for;  // the instruction set by the compiler's own account of the file
#define VFE_KERNEL(stem, Args) void (*stem)(const kernels::Args&);
#include "kernel_list.inc"
#undef VFE_KERNEL
};

enum class Device { cpu, cuda };

// Chooses the CPU table by name, or the best this processor has if `name` is empty; "cuda" takes the twins of kernels
// that have one, which move arrays to the device and back. Throws TargetUnavailable when that one is not built or the
// machine lacks it. Called at import with VFE_TARGET, and by the tests to go through all of them.
void choose_target(const std::string& name);

const KernelTable& table(Device device);

// The targets that are built, best first, and those of them this processor can run.
std::vector<std::string> built_targets();
std::vector<std::string> usable_targets();

// The way into every kernel: the contract's checks, then the copy for the device.
template <class Args>
void launch(void (*KernelTable::*kernel)(const Args&), const Args& args, Device device = Device::cpu) {
  check(args);
  (table(device).*kernel)(args);
}

}  // namespace vfe::runtime
