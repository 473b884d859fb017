#include <pybind11/native_enum.h>

#include "kernels.hpp"

namespace vfe::bindings {

void bind_exact_ising(py::module_& module) {
  py::native_enum<kernels::IsingSums>(module, "IsingSums", "enum.Enum", "What exact_ising adds up besides Z.")
      .value("log_z", kernels::IsingSums::log_z)
      .value("moments", kernels::IsingSums::moments)
      .value("variance", kernels::IsingSums::variance)
      .finalize();
  module.def(
      "exact_ising",
      [](const py::array& couplings, const py::array& fields, double beta, kernels::IsingSums what, double energy,
         std::int64_t range_states, std::int64_t first_range, std::int64_t n_ranges, int num_threads, bool cuda) {
        if (fields.ndim() != 1) throw ArgumentError("fields: expected (n_spins,), got " + shape_text(fields));
        const py::ssize_t n = fields.shape(0);
        check_reals(couplings, kernels::Real::float64, {n, n}, "couplings");
        check_reals(fields, kernels::Real::float64, {n}, "fields");
        py::array_t<double> sums(
            {static_cast<py::ssize_t>(n_ranges), static_cast<py::ssize_t>(kernels::exact_ising_sums(n, what))});
        run(&runtime::KernelTable::exact_ising,
            {n, static_cast<const double*>(couplings.data()), static_cast<const double*>(fields.data()), beta, what,
             energy, range_states, first_range, n_ranges, sums.mutable_data(), runtime::checked_threads(num_threads)},
            device_of(cuda));
        return sums;
      },
      py::arg("couplings").noconvert(), py::arg("fields").noconvert(), py::kw_only(), py::arg("beta"), py::arg("what"),
      py::arg("energy") = 0.0, py::arg("range_states"), py::arg("first_range"), py::arg("n_ranges"),
      py::arg("num_threads"), py::arg("cuda") = false,
      "Sums of some ranges of states, a row each, as src/cpp/kernels/exact_ising.hpp has them.");
}

}  // namespace vfe::bindings
