#include "kernels.hpp"

namespace vfe::bindings {

void bind_elementwise(py::module_& module) {
  const auto bind = [&](const char* name, kernels::Function function, const char* doc) {
    module.def(
        name,
        [function](const py::array& x, int num_threads) {
          const kernels::Real real = real_of(x, "x");
          const py::array in = py::array::ensure(x, py::array::c_style);
          py::array y = new_array(real, {in.shape(), in.shape() + in.ndim()});
          run(&runtime::KernelTable::elementwise,
              {real, function, in.size(), in.data(), y.mutable_data(), runtime::checked_threads(num_threads)});
          return y;
        },
        py::arg("x").noconvert(), py::kw_only(), py::arg("num_threads") = 0, doc);
  };
  bind("exp", kernels::Function::exp, "e^x.");
  bind("expm1", kernels::Function::expm1, "e^x - 1.");
  bind("exp_excess", kernels::Function::exp_excess, "e^x - 1 - x.");
  bind("log", kernels::Function::log, "ln x for positive normal numbers.");
  bind("log1p_unit", kernels::Function::log1p_unit, "ln(1 + x) for 0 <= x <= 1.");
  bind("sigmoid", kernels::Function::sigmoid, "1 / (1 + e^-x).");
  bind("softplus", kernels::Function::softplus, "ln(1 + e^x).");
  bind("coth_excess", kernels::Function::coth_excess, "x coth(x / 2) - 2, in float64.");
  bind("coth_excess_slope", kernels::Function::coth_excess_slope, "The derivative of coth_excess.");
}

}  // namespace vfe::bindings
