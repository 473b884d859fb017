#include <pybind11/native_enum.h>

#include "kernels.hpp"

namespace vfe::bindings {

void bind_roofline(py::module_& module) {
  using kernels::Probe;
  py::native_enum<Probe>(module, "Probe", "enum.Enum", "What `roofline` measures.")
      .value("mul_add_float32", Probe::mul_add_float32)
      .value("mul_add_float64", Probe::mul_add_float64)
      .value("fma_float32", Probe::fma_float32)
      .value("fma_float64", Probe::fma_float64)
      .value("read", Probe::read)
      .value("write", Probe::write)
      .value("copy", Probe::copy)
      .value("philox", Probe::philox)
      .finalize();
  module.def(
      "roofline",
      [](Probe probe, double seconds, std::int64_t bytes, int num_threads) {
        double rate = 0;
        run(&runtime::KernelTable::roofline,
            {probe, seconds, bytes, &rate, runtime::threads_worth(1e300, runtime::checked_threads(num_threads))});
        return rate;
      },
      py::arg("probe"), py::kw_only(), py::arg("seconds") = 0.1, py::arg("bytes") = std::int64_t{1} << 26,
      py::arg("num_threads") = 0, "A peak of this machine: flop/s, bytes/s or random words/s over all threads.");
}

}  // namespace vfe::bindings
