#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {

void bind_free_energy(py::module_& module) {
  module.def(
      "free_energy",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const Words& visible,
         double beta, bool free_energy, bool mean_hidden, int num_threads, bool exchanged, runtime::Cache* prepared,
         bool cuda) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_words(visible, rbm.n_visible, "visible");
        const py::ssize_t n_states = visible.shape(0);
        py::object energies = py::none(), means = py::none();
        void *energies_out = nullptr, *means_out = nullptr;
        if (free_energy) {
          py::array out = new_array_like(visible, weights.dtype(), {n_states});
          energies_out = out.mutable_data();
          energies = out;
        }
        if (mean_hidden) {
          py::array out = new_array_like(visible, weights.dtype(), {n_states, rbm.n_hidden});
          means_out = out.mutable_data();
          means = out;
        }
        run(&runtime::KernelTable::free_energy,
            {rbm, beta, n_states, visible.data(), energies_out, means_out, runtime::checked_threads(num_threads),
             exchanged, prepared},
            device_of(cuda));
        return py::make_tuple(energies, means);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("visible").noconvert(), py::arg("beta"), py::arg("free_energy"), py::arg("mean_hidden"),
      py::arg("num_threads"), py::arg("exchanged") = false, py::arg("prepared") = nullptr, py::arg("cuda") = false,
      "Clamped free energies and mean hidden states of packed visible states; None for what is not asked for.");
}

}  // namespace vfe::bindings
