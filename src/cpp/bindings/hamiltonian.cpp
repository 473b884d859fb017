#include "kernels.hpp"

namespace vfe::bindings {

void bind_hamiltonian(py::module_& module) {
  module.def(
      "hamiltonian",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const py::array& sigma,
         const py::array& start, double beta, const py::array& mass, double step, bool tested,
         const py::array_t<std::int64_t, py::array::c_style>& n_steps, std::int64_t every, std::uint64_t seed,
         std::int64_t move_offset, int num_threads, runtime::Cache* prepared) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_reals(sigma, rbm.real, {rbm.n_visible}, "sigma");
        const py::ssize_t n_chains = start.ndim() > 0 ? start.shape(0) : 0;
        check_reals(start, kernels::Real::float64, {n_chains, rbm.n_visible}, "start");
        check_reals(mass, kernels::Real::float64, {rbm.n_visible}, "mass");
        if (every < 1) throw py::value_error("every: expected a divisor of n_moves, >= 1");
        const py::ssize_t n_moves = n_steps.size(), n_samples = n_moves / every;
        py::array_t<double> samples({n_chains, n_samples, static_cast<py::ssize_t>(rbm.n_visible)});
        py::array_t<double> energies({n_chains, n_samples}), acceptance(n_chains);
        py::array_t<std::int64_t> divergent(n_chains);
        run(&runtime::KernelTable::hamiltonian,
            {rbm, static_cast<const double*>(sigma.data()), beta, static_cast<const double*>(mass.data()), step, tested,
             n_steps.data(), n_moves, every, seed, move_offset, n_chains, static_cast<const double*>(start.data()),
             samples.mutable_data(), energies.mutable_data(), acceptance.mutable_data(), divergent.mutable_data(),
             runtime::checked_threads(num_threads), prepared});
        return py::make_tuple(samples, energies, acceptance, divergent);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("sigma").noconvert(), py::arg("start").noconvert(), py::kw_only(), py::arg("beta"), py::arg("mass"),
      py::arg("step"), py::arg("tested"), py::arg("n_steps"), py::arg("every"), py::arg("seed"), py::arg("move_offset"),
      py::arg("num_threads"), py::arg("prepared") = nullptr,
      "Samples, their U, sums of acceptance and divergent moves of Hamiltonian dynamics from `start`.");
}

}  // namespace vfe::bindings
