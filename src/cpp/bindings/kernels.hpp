// What each file of bindings adds to the module, and the step they all share.
#pragma once

#include "../runtime/dispatch.hpp"
#include "../runtime/threads.hpp"
#include "arrays.hpp"

namespace vfe::bindings {

#define VFE_KERNEL(stem, Args) void bind_##stem(py::module_& module);
#include "../runtime/kernel_list.inc"
#undef VFE_KERNEL

// What a kernel is asked to watch for on this thread: signals, which Python handles on its main thread
// alone. Any other thread must not even wait for the interpreter lock to find that out.
runtime::InterruptPoll poll_of_this_thread();

// Runs a kernel without the interpreter lock.
template <class Args>
void run(void (*runtime::KernelTable::*kernel)(const Args&), const Args& args,
         runtime::Device device = runtime::Device::cpu) {
  const runtime::PollScope poll(poll_of_this_thread());
  const py::gil_scoped_release release;
  runtime::launch(kernel, args, device);
}

// The argument `cuda` of what has a twin.
inline runtime::Device device_of(bool cuda) { return cuda ? runtime::Device::cuda : runtime::Device::cpu; }

}  // namespace vfe::bindings
