#include <pybind11/stl.h>

#include "kernels.hpp"

namespace vfe::bindings {

void bind_gaussian_gibbs(py::module_& module) {
  module.def(
      "gaussian_gibbs",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const py::array& sigma,
         const py::array& start, std::int64_t n_steps, const Betas& beta, const std::optional<Words>& clamped,
         std::uint64_t seed, std::int64_t chain_offset, std::int64_t step_offset, int num_threads,
         runtime::Cache* prepared) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_reals(sigma, rbm.real, {rbm.n_visible}, "sigma");
        const py::ssize_t n_chains = start.ndim() > 0 ? start.shape(0) : 0;
        check_reals(start, rbm.real, {n_chains, rbm.n_visible}, "start");
        if (clamped) check_words(*clamped, rbm.n_visible, "clamped");
        py::array visible = new_array(rbm.real, {n_chains, rbm.n_visible});
        Words hidden({n_chains, static_cast<py::ssize_t>(words_for(rbm.n_hidden))});
        bool overflowed = false;
        run(&runtime::KernelTable::gaussian_gibbs,
            {{rbm, beta.data(), beta.size(), clamped ? clamped->data() : nullptr, clamped ? clamped->shape(0) : 0, seed,
              chain_offset, step_offset, n_chains, n_steps, runtime::checked_threads(num_threads), prepared},
             sigma.data(),
             start.data(),
             visible.mutable_data(),
             hidden.mutable_data(),
             &overflowed});
        if (overflowed) throw ArgumentError("weights: expected smaller parameters or states, their products overflow");
        return py::make_tuple(visible, hidden);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("sigma").noconvert(), py::arg("start").noconvert(), py::arg("n_steps"), py::arg("beta"),
      py::arg("clamped"), py::arg("seed"), py::arg("chain_offset"), py::arg("step_offset"), py::arg("num_threads"),
      py::arg("prepared") = nullptr,
      "Real visible and packed hidden states after n_steps of block Gibbs sampling from `start`.");
}

}  // namespace vfe::bindings
