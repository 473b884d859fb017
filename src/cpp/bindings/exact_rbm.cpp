#include "kernels.hpp"

namespace vfe::bindings {
namespace {

using Result = py::typing::Tuple<double, bool, py::object, py::object, py::object, py::object>;

}  // namespace

void bind_exact_rbm(py::module_& module) {
  module.def(
      "exact_rbm",
      [](const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias, double beta,
         bool moments, int num_threads) -> Result {
        const kernels::RbmView rbm = rbm_view(weights, visible_bias, hidden_bias);
        const int threads = runtime::checked_threads(num_threads);
        double log_z = 0, energy = 0;
        bool product_form = false;
        if (!moments) {
          run(&runtime::KernelTable::exact_rbm,
              {rbm, beta, &log_z, &product_form, nullptr, nullptr, nullptr, nullptr, threads});
          return py::make_tuple(log_z, product_form, py::none(), py::none(), py::none(), py::none());
        }
        py::array_t<double> visible(rbm.n_visible), hidden(rbm.n_hidden), pairs({rbm.n_visible, rbm.n_hidden});
        run(&runtime::KernelTable::exact_rbm, {rbm, beta, &log_z, &product_form, visible.mutable_data(),
                                               hidden.mutable_data(), pairs.mutable_data(), &energy, threads});
        return py::make_tuple(log_z, product_form, visible, hidden, pairs, energy);
      },
      py::arg("weights").noconvert(), py::arg("visible_bias").noconvert(), py::arg("hidden_bias").noconvert(),
      py::kw_only(), py::arg("beta"), py::arg("moments"), py::arg("num_threads"),
      "ln Z, whether it was found in product form, <v>, <h>, <v h> and <E>; the last four are None without `moments`.");
}

}  // namespace vfe::bindings
