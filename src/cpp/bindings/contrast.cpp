#include <pybind11/stl.h>

#include "kernels.hpp"

namespace vfe::bindings {

void bind_contrast(py::module_& module) {
  module.def(
      "contrast",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, const Words& data,
         const std::optional<Words>& start, std::int64_t n_steps, std::uint64_t seed, std::int64_t step_offset,
         int num_threads, runtime::Cache* prepared) {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        check_words(data, rbm.n_visible, "data");
        if (start) check_words(*start, rbm.n_hidden, "start");
        const py::ssize_t n_chains = start ? start->shape(0) : data.shape(0);
        Words visible({n_chains, static_cast<py::ssize_t>(words_for(rbm.n_visible))});
        Words hidden({start ? n_chains : 0, static_cast<py::ssize_t>(words_for(rbm.n_hidden))});
        const std::vector<py::ssize_t> of_visible{rbm.n_visible}, of_hidden{rbm.n_hidden};
        py::array pairs = new_array(rbm.real, {rbm.n_visible, rbm.n_hidden});
        py::array data_visible = new_array(rbm.real, of_visible), data_hidden = new_array(rbm.real, of_hidden);
        py::array chains_visible = new_array(rbm.real, of_visible), chains_hidden = new_array(rbm.real, of_hidden);
        run(&runtime::KernelTable::contrast,
            {rbm, seed, step_offset, n_steps, data.shape(0), n_chains, data.data(), start ? start->data() : nullptr,
             visible.mutable_data(), start ? hidden.mutable_data() : nullptr, pairs.mutable_data(),
             data_visible.mutable_data(), data_hidden.mutable_data(), chains_visible.mutable_data(),
             chains_hidden.mutable_data(), runtime::checked_threads(num_threads), prepared});
        return py::make_tuple(pairs, data_visible, data_hidden, chains_visible, chains_hidden, visible, hidden);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::arg("data").noconvert(), py::arg("start").noconvert(), py::kw_only(), py::arg("n_steps"), py::arg("seed"),
      py::arg("step_offset"), py::arg("num_threads"), py::arg("prepared") = nullptr,
      "Averages over data less those over chains after n_steps from `start`, or from the data; all, and the chains.");
}

}  // namespace vfe::bindings
