#include "kernels.hpp"

namespace vfe::bindings {
namespace {

kernels::LikelihoodArgs arguments(const py::array& logits, const py::array& x, int num_threads) {
  const kernels::Real real = real_of(logits, "logits");
  const auto contiguous = [](const py::array& a) { return (a.flags() & py::array::c_style) != 0; };
  if (logits.ndim() != 3 || !contiguous(logits)) {
    throw ArgumentError("logits: expected a C-ordered array (n_samples, n_rows, n_units), got " + shape_text(logits));
  }
  if (x.ndim() != 2 || x.shape(0) != logits.shape(1) || x.shape(1) != logits.shape(2) || !contiguous(x) ||
      real_of(x, "x") != real) {
    throw ArgumentError("x: expected a C-ordered array of (" + std::to_string(logits.shape(1)) + ", " +
                        std::to_string(logits.shape(2)) + ") numbers of the dtype of logits, got " + shape_text(x));
  }
  return {real,     logits.shape(0), logits.shape(1), logits.shape(2), logits.data(),
          x.data(), nullptr,         nullptr,         nullptr,         runtime::checked_threads(num_threads)};
}

}  // namespace

void bind_likelihood(py::module_& module) {
  module.def(
      "log_likelihood",
      [](const py::array& logits, const py::array& x, int num_threads) {
        kernels::LikelihoodArgs args = arguments(logits, x, num_threads);
        py::array log_prob = new_array(args.real, {args.n_samples, args.n_rows});
        args.log_prob = log_prob.mutable_data();
        run(&runtime::KernelTable::likelihood, args);
        return log_prob;
      },
      py::arg("logits").noconvert(), py::arg("x").noconvert(), py::arg("num_threads"),
      "ln p(x | z) of units with means in [0, 1], given logits (n_samples, n_rows, n_units).");
  module.def(
      "log_likelihood_backward",
      [](const py::array& logits, const py::array& x, const py::array& grad, int num_threads) {
        kernels::LikelihoodArgs args = arguments(logits, x, num_threads);
        if (grad.ndim() != 2 || grad.shape(0) != args.n_samples || grad.shape(1) != args.n_rows ||
            (grad.flags() & py::array::c_style) == 0 || real_of(grad, "grad") != args.real) {
          throw ArgumentError("grad: expected a C-ordered array (n_samples, n_rows) of the dtype of logits, got " +
                              shape_text(grad));
        }
        py::array grad_logits = new_array(args.real, {args.n_samples, args.n_rows, args.n_units});
        args.grad = grad.data();
        args.grad_logits = grad_logits.mutable_data();
        run(&runtime::KernelTable::likelihood, args);
        return grad_logits;
      },
      py::arg("logits").noconvert(), py::arg("x").noconvert(), py::arg("grad").noconvert(), py::arg("num_threads"),
      "Its gradient by the logits, given that by ln p(x | z).");
}

}  // namespace vfe::bindings
