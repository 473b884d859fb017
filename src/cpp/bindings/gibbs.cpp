#include <pybind11/stl.h>

#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {

void bind_gibbs(py::module_& module) {
  module.def(
      "gibbs",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const Words& start,
         std::int64_t n_steps, const Betas& beta, const std::optional<Words>& clamped, std::uint64_t seed,
         std::int64_t chain_offset, std::int64_t step_offset, int num_threads, runtime::Cache* prepared, bool cuda) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_words(start, rbm.n_visible, "start");
        if (clamped) check_words(*clamped, rbm.n_visible, "clamped");
        Words visible = new_words_like(start, start.shape(0), words_for(rbm.n_visible));
        Words hidden = new_words_like(start, start.shape(0), words_for(rbm.n_hidden));
        run(&runtime::KernelTable::gibbs,
            {{rbm, beta.data(), beta.size(), clamped ? clamped->data() : nullptr, clamped ? clamped->shape(0) : 0, seed,
              chain_offset, step_offset, start.shape(0), n_steps, runtime::checked_threads(num_threads), prepared},
             start.data(),
             visible.mutable_data(),
             hidden.mutable_data()},
            device_of(cuda));
        return py::make_tuple(visible, hidden);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("start").noconvert(), py::arg("n_steps"), py::arg("beta"), py::arg("clamped"), py::arg("seed"),
      py::arg("chain_offset"), py::arg("step_offset"), py::arg("num_threads"), py::arg("prepared") = nullptr,
      py::arg("cuda") = false, "Packed visible and hidden states after n_steps of block Gibbs sampling from `start`.");
}

}  // namespace vfe::bindings
