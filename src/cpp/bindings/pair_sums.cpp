#include "kernels.hpp"

namespace vfe::bindings {

void bind_pair_sums(py::module_& module) {
  module.def(
      "pair_sums",
      [](const Words& states, std::int64_t n_units, const py::array& values, int num_threads) {
        check_words(states, n_units, "states");
        const kernels::Real real = real_of(values, "values");
        const bool contiguous = (values.flags() & py::array::c_style) != 0;
        if (values.ndim() != 2 || values.shape(0) != states.shape(0) || !contiguous) {
          throw ArgumentError("values: expected a C-ordered array of " + std::to_string(states.shape(0)) +
                              " rows, got " + shape_text(values));
        }
        py::array sums = new_array(real, {static_cast<py::ssize_t>(n_units), values.shape(1)});
        py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(n_units));
        run(&runtime::KernelTable::pair_sums,
            {real, states.shape(0), n_units, values.shape(1), states.data(), values.data(), sums.mutable_data(),
             counts.mutable_data(), runtime::checked_threads(num_threads)});
        return py::make_tuple(sums, counts);
      },
      py::arg("states").noconvert(), py::arg("n_units"), py::arg("values").noconvert(), py::kw_only(),
      py::arg("num_threads"), "Sums over samples of packed units times the columns of `values`, and of the units.");
}

}  // namespace vfe::bindings
