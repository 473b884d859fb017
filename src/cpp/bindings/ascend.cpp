#include <pybind11/stl.h>

#include "kernels.hpp"

namespace vfe::bindings {

namespace {

// Arrays that an update reads, checked; where there is none, null.
const void* data_of(const std::optional<py::array>& array, const py::array& like, py::ssize_t size, const char* name) {
  if (!array) return nullptr;
  const bool contiguous = (array->flags() & py::array::c_style) != 0;
  if (real_of(*array, name) != real_of(like, "x") || array->size() != size || !contiguous) {
    throw ArgumentError(std::string(name) + ": expected a C-ordered array of " + std::to_string(size) +
                        " numbers of the dtype of x, got " + shape_text(*array) + " of dtype " +
                        py::str(array->dtype()).cast<std::string>());
  }
  return array->data();
}

}  // namespace

void bind_ascend(py::module_& module) {
  using Optional = std::optional<py::array>;
  module.def(
      "ascend",
      [](const py::array& x, const py::array& gradient, double rate, double momentum, double decay, double memory,
         double epsilon, const Optional& velocity, const Optional& squares, const Optional& row_offset,
         const Optional& column_offset, const Optional& row_change, const Optional& column_change, int num_threads) {
        const kernels::Real real = real_of(x, "x");
        if (x.ndim() < 1 || x.ndim() > 2) throw ArgumentError("x: expected one or two axes, got " + shape_text(x));
        const py::ssize_t n_columns = x.shape(x.ndim() - 1), n_rows = x.ndim() == 2 ? x.shape(0) : 1;
        const std::vector<py::ssize_t> shape(x.shape(), x.shape() + x.ndim());
        if (squares && !velocity) throw ArgumentError("velocity: expected one with squares, got none");
        const auto like = [&](const Optional& given) { return given ? Optional(new_array(real, shape)) : Optional(); };
        void* x_data = nullptr;
        const py::array new_x = new_frozen_array(real, shape, x_data);
        Optional new_velocity = like(velocity), new_squares = like(squares), row_sums, column_sums;
        if (row_offset) {
          if (!column_offset || !row_change || !column_change) {
            throw ArgumentError("row_offset: expected column_offset, row_change and column_change too");
          }
          row_sums = new_array(real, {n_rows});
          column_sums = new_array(real, {n_columns});
        }
        const auto out = [](Optional& array) { return array ? array->mutable_data() : nullptr; };
        run(&runtime::KernelTable::ascend, {real,
                                            n_rows,
                                            n_columns,
                                            data_of(x, x, x.size(), "x"),
                                            data_of(gradient, x, x.size(), "gradient"),
                                            data_of(velocity, x, x.size(), "velocity"),
                                            data_of(squares, x, x.size(), "squares"),
                                            data_of(row_offset, x, n_rows, "row_offset"),
                                            data_of(column_offset, x, n_columns, "column_offset"),
                                            data_of(row_change, x, n_rows, "row_change"),
                                            data_of(column_change, x, n_columns, "column_change"),
                                            rate,
                                            momentum,
                                            decay,
                                            memory,
                                            epsilon,
                                            x_data,
                                            out(new_velocity),
                                            out(new_squares),
                                            out(row_sums),
                                            out(column_sums),
                                            runtime::checked_threads(num_threads)});
        return py::make_tuple(new_x, new_velocity, new_squares, row_sums, column_sums);
      },
      py::arg("x").noconvert(), py::arg("gradient").noconvert(), py::kw_only(), py::arg("rate"), py::arg("momentum"),
      py::arg("decay"), py::arg("memory") = 0.0, py::arg("epsilon") = 0.0, py::arg("velocity") = py::none(),
      py::arg("squares") = py::none(), py::arg("row_offset") = py::none(), py::arg("column_offset") = py::none(),
      py::arg("row_change") = py::none(), py::arg("column_change") = py::none(), py::arg("num_threads"),
      "x after an update, and what belongs to it: velocity, squares, sums over columns and rows (None if not given).");
}

}  // namespace vfe::bindings
