#include <pthread.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstdlib>

#include "../../cuda/cuda.hpp"
#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {
namespace {

bool signal_pending() {
  const py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() != 0;
}

void translate(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const ArgumentTypeError& e) {
    py::set_error(PyExc_TypeError, e.what());
  } catch (const ArgumentError& e) {
    py::set_error(PyExc_ValueError, e.what());
  } catch (const Interrupted&) {
    // The signal handler has set the exception already.
  }
}

py::typing::Dict<py::str, py::object> build_info() {
  const runtime::KernelTable& table = runtime::table(runtime::Device::cpu);
  const cuda::Status cuda = cuda::side().status();
  py::typing::Dict<py::str, py::object> info;
  info["version"] = VFE_VERSION;
  info["compiler"] = VFE_COMPILER;
  info["target"] = table.target;
  info["compiled_for"] = table.compiled_for;
  info["built_targets"] = runtime::built_targets();
  info["usable_targets"] = runtime::usable_targets();
  info["num_threads"] = runtime::threads_worth(1e300, runtime::checked_threads(0));
  info["cuda_built"] = cuda.built;
  info["cuda_toolkit"] = cuda.toolkit;
  info["cuda_architectures"] = cuda.architectures;
  info["cuda_driver"] = cuda.driver;
  info["cuda_devices"] = cuda.devices;
  info["cuda_problem"] = cuda.problem;
  return info;
}

}  // namespace

runtime::InterruptPoll poll_of_this_thread() {
  // Asking Python takes longer than a small kernel. The answer changes when a process forks.
  static std::atomic<unsigned long> main_thread = 0;
  static std::atomic<bool> known = false;
  static const bool watched = pthread_atfork(nullptr, nullptr, [] { known = false; }) == 0;
  if (!watched || !known.load(std::memory_order_acquire)) {
    main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
    known.store(true, std::memory_order_release);
  }
  return main_thread == PyThread_get_thread_ident() ? signal_pending : nullptr;
}

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  module.doc() = "The compiled kernels. Arguments are checked here; vfe_fast is the face.";
  py::class_<runtime::Cache>(module, "Prepared", "What kernels keep of checked, read-only parameters between calls.")
      .def(py::init<>())
      .def("with_other_biases", &runtime::Cache::with_other_biases, "The same for the same weights with other biases.");
  module.def("version", [] { return VFE_VERSION; }, "Version of the package that this module was built for.");
  py::register_exception<TargetUnavailable>(module, "TargetUnavailableError", PyExc_RuntimeError);
  py::register_exception_translator(translate);
  const char* target = std::getenv("VFE_TARGET");
  runtime::choose_target(target != nullptr ? target : "");

  module.def("use_target", runtime::choose_target, py::arg("name"),
             "Switches the kernels to another instruction set; the tests go through all of them.");
  module.def("build_info", build_info, "What was compiled, what was found, and what is in use.");
  module.def(
      "check_rbm",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, bool biases_only) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        biases_only ? check_biases(rbm) : check(rbm);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::kw_only(), py::arg("biases_only") = false,
      "Raises unless the arrays are the parameters of an RBM: dtype, shapes, finite numbers.");
  module.def(
      "require_device", [](bool cuda) { runtime::table(cuda ? runtime::Device::cuda : runtime::Device::cpu); },
      py::arg("cuda"), "Raises TargetUnavailableError, saying why, if the device cannot be used.");
  module.def("use_cuda_library", cuda::use_library, py::arg("path"),
             "Takes the CUDA twins of a library, or its own if that is empty; for tests/cuda_on_host.");
  module.def("pack_states", pack_states, py::arg("states").noconvert(), py::arg("n_units"), py::arg("name"),
             "0/1 states (n_samples, n_units) to 64-bit words, unit u in bit u % 64 of word u // 64.");
  module.def("unpack_states", unpack_states, py::arg("words").noconvert(), py::arg("n_units"),
             "Packed words to uint8 states (n_samples, n_units).");
  bind_device_arrays(module);
#define VFE_KERNEL(stem, Args) bind_##stem(module);
#include "../runtime/kernel_list.inc"
#undef VFE_KERNEL
}

}  // namespace vfe::bindings
