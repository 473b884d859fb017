#include <pybind11/stl.h>

#include "kernels.hpp"

namespace vfe::bindings {
namespace {

py::ssize_t elements(const py::array& array, int axis) { return array.strides(axis) / array.itemsize(); }

}  // namespace

void bind_product(py::module_& module) {
  module.def(
      "product",
      [](const py::array& a, const py::array& w, const std::optional<py::array>& bias, int num_threads) {
        const kernels::Real real = real_of(a, "a");
        if (a.ndim() != 2 || w.ndim() != 2 || a.shape(1) != w.shape(0)) {
          throw ArgumentError("w: expected (n_inputs, n_columns) to follow " + shape_text(a) + ", got " +
                              shape_text(w));
        }
        const py::array by_row = py::array::ensure(w, py::array::c_style);
        if (real_of(w, "w") != real) throw ArgumentTypeError("w: expected the dtype of a");
        if (bias) check_reals(*bias, real, {w.shape(1)}, "bias");
        py::array x = new_array(real, {a.shape(0), w.shape(1)});
        run(&runtime::KernelTable::product,
            {real, a.shape(0), a.shape(1), w.shape(1), a.data(), elements(a, 0), elements(a, 1), by_row.data(),
             w.shape(1), 1, bias ? bias->data() : nullptr, x.mutable_data(), runtime::checked_threads(num_threads)});
        return x;
      },
      py::arg("a").noconvert(), py::arg("w").noconvert(), py::arg("bias") = py::none(), py::kw_only(),
      py::arg("num_threads") = 0, "a @ w + bias, the same bits for any number of threads and instruction set.");
}

}  // namespace vfe::bindings
