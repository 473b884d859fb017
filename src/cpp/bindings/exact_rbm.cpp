#include <pybind11/native_enum.h>

#include "kernels.hpp"

namespace vfe::bindings {

void bind_exact_rbm(py::module_& module) {
  module.def(
      "exact_rbm_ranges",
      [](std::int64_t n_enumerated, std::int64_t n_others) {
        return std::int64_t{1} << kernels::exact_rbm_range_bits(n_enumerated, n_others);
      },
      py::arg("n_enumerated"), py::arg("n_others"), "Ranges that the states of the smaller layer are cut in.");
  py::native_enum<kernels::RbmSums>(module, "RbmSums", "enum.Enum", "What exact_rbm adds up besides Z.")
      .value("log_z", kernels::RbmSums::log_z)
      .value("moments", kernels::RbmSums::moments)
      .value("variance", kernels::RbmSums::variance)
      .finalize();
  py::native_enum<kernels::RbmProducts>(module, "RbmProducts", "enum.Enum", "The products exact_rbm may use.")
      .value("double", kernels::RbmProducts::double_precision)
      .value("single", kernels::RbmProducts::single_precision)
      .value("none", kernels::RbmProducts::none)
      .finalize();
  module.def(
      "exact_rbm",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, double beta,
         kernels::RbmSums what, double energy, std::int64_t first_range, std::int64_t n_ranges,
         kernels::RbmProducts products, int num_threads, bool cuda) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        const std::int64_t size =
            kernels::exact_rbm_sums(kernels::smaller_layer(rbm), kernels::larger_layer(rbm), what);
        py::array_t<double> sums({static_cast<py::ssize_t>(n_ranges), static_cast<py::ssize_t>(size)});
        bool product_form = false, single_precision = false;
        run(&runtime::KernelTable::exact_rbm,
            {rbm, beta, what, energy, first_range, n_ranges, sums.mutable_data(), products, &product_form,
             &single_precision, runtime::checked_threads(num_threads)},
            device_of(cuda));
        return py::typing::Tuple<py::array_t<double>, bool, bool>(py::make_tuple(sums, product_form, single_precision));
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::kw_only(), py::arg("beta"), py::arg("what"), py::arg("energy") = 0.0, py::arg("first_range"),
      py::arg("n_ranges"), py::arg("products"), py::arg("num_threads"), py::arg("cuda") = false,
      "Sums of some ranges of states, a row each, as src/cpp/kernels/exact_rbm.hpp has them, whether they were found "
      "in product form, and whether in float32.");
}

}  // namespace vfe::bindings
