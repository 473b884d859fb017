#include "kernels.hpp"

namespace vfe::bindings {

void bind_anneal(py::module_& module) {
  module.def(
      "anneal",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const py::array& base,
         const Words& start, const Betas& betas, const Betas& log_weights, bool stay, std::uint64_t seed,
         std::int64_t chain_offset, std::int64_t step_offset, int num_threads, runtime::Cache* prepared) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_reals(base, kernels::Real::float64, {rbm.n_visible}, "base");
        check_words(start, rbm.n_visible, "start");
        const py::ssize_t n_chains = start.shape(0), n_increments = betas.size() - 1;
        check_reals(log_weights, kernels::Real::float64, {n_chains}, "log_weights");
        if (n_increments < 1) throw py::value_error("betas: expected at least two");
        py::array_t<double> increments({n_increments, n_chains}), total(n_chains);
        for (py::ssize_t c = 0; c < n_chains; ++c) total.mutable_data()[c] = log_weights.data()[c];
        Words visible({n_chains, start.shape(1)});
        run(&runtime::KernelTable::anneal,
            {rbm, static_cast<const double*>(base.data()), betas.data(), n_increments, stay, seed, chain_offset,
             step_offset, n_chains, start.data(), visible.mutable_data(), total.mutable_data(),
             increments.mutable_data(), runtime::checked_threads(num_threads), prepared});
        return py::make_tuple(visible, total, increments);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("base").noconvert(), py::arg("start").noconvert(), py::kw_only(), py::arg("betas"),
      py::arg("log_weights"), py::arg("stay"), py::arg("seed"), py::arg("chain_offset"), py::arg("step_offset"),
      py::arg("num_threads"), py::arg("prepared") = nullptr,
      "Packed visible states, log weights and increments of chains that pass `betas` from `start`.");
}

}  // namespace vfe::bindings
