#include <pybind11/stl.h>

#include "kernels.hpp"

namespace vfe::bindings {
namespace {

// Steps along an axis; along one of length 1 there are none, and 1 is as good as any.
py::ssize_t elements(const py::array& array, int axis) {
  return array.shape(axis) > 1 ? array.strides(axis) / array.itemsize() : 1;
}

}  // namespace

void bind_product(py::module_& module) {
  module.def(
      "product",
      [](const py::array& a, const py::array& w, const std::optional<py::array>& bias, int num_threads) {
        const kernels::Real real = real_of(a, "a");
        if (a.ndim() != 2) throw ArgumentError("a: expected (n_rows, n_inputs), got " + shape_text(a));
        if (w.ndim() != 2) throw ArgumentError("w: expected (n_inputs, n_columns), got " + shape_text(w));
        if (real_of(w, "w") != real) throw ArgumentTypeError("w: expected the dtype of a");
        if (bias) check_reals(*bias, real, {w.shape(1)}, "bias");
        py::array x = new_array(real, {a.shape(0), w.shape(1)});
        run(&runtime::KernelTable::product,
            {real, a.shape(0), a.shape(1), w.shape(0), w.shape(1), a.data(), elements(a, 0), elements(a, 1), w.data(),
             elements(w, 0), elements(w, 1), bias ? bias->data() : nullptr, x.mutable_data(),
             runtime::checked_threads(num_threads)});
        return x;
      },
      py::arg("a").noconvert(), py::arg("w").noconvert(), py::arg("bias") = py::none(), py::kw_only(),
      py::arg("num_threads") = 0, "a @ w + bias, the same bits for any number of threads and instruction set.");
}

}  // namespace vfe::bindings
