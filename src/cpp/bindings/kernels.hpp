// What each file of bindings adds to the module, and the step they all share.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/threads.hpp"
#include "arrays.hpp"

namespace vfe::bindings {

#define VFE_KERNEL(stem, Args) void bind_##stem(py::module_& module);
#include "../runtime/kernel_list.inc"
#undef VFE_KERNEL

// Runs a kernel without the interpreter lock.
template <class Args>
void run(void (*runtime::KernelTable::*kernel)(const Args&), const Args& args) {
  const py::gil_scoped_release release;
  runtime::launch(kernel, args);
}

}  // namespace vfe::bindings
