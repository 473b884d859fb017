#include "kernels.hpp"

namespace vfe::bindings {
namespace {

// Arrays of the caller that a call goes on with, in place.
template <class T>
T* in_place(py::array_t<T, py::array::c_style>& array, std::initializer_list<py::ssize_t> shape, const char* name) {
  const bool fits =
      array.ndim() == static_cast<py::ssize_t>(shape.size()) && std::equal(shape.begin(), shape.end(), array.shape());
  if (!fits) throw py::value_error(std::string(name) + ": expected another shape");
  if (!array.writeable()) throw py::value_error(std::string(name) + ": expected an array that may be written to");
  return array.mutable_data();
}

}  // namespace

void bind_flat_histogram(py::module_& module) {
  module.def(
      "flat_histogram",
      [](const py::array& couplings, const py::array& fields, double offset, const py::array& increment,
         const py::array& decay, std::int64_t low, std::int64_t high,
         py::array_t<std::int8_t, py::array::c_style> spins, py::array_t<double, py::array::c_style> log_g,
         py::array_t<std::uint64_t, py::array::c_style> histogram,
         py::array_t<std::uint8_t, py::array::c_style> visited, py::array_t<std::uint8_t, py::array::c_style> way,
         py::array_t<std::int64_t, py::array::c_style> trips, std::int64_t n_sweeps, std::uint64_t seed,
         std::int64_t sweep_offset, int num_threads) {
        if (log_g.ndim() != 2) throw py::value_error("log_g: expected (n_walkers, n_levels)");
        const py::ssize_t n = fields.size(), n_walkers = log_g.shape(0), n_levels = log_g.shape(1);
        check_reals(couplings, kernels::Real::float64, {n, n}, "couplings");
        check_reals(fields, kernels::Real::float64, {n}, "fields");
        check_reals(increment, kernels::Real::float64, {n_walkers}, "increment");
        check_reals(decay, kernels::Real::float64, {n_walkers}, "decay");
        run(&runtime::KernelTable::flat_histogram, {n,
                                                    n_levels,
                                                    n_walkers,
                                                    static_cast<const double*>(couplings.data()),
                                                    static_cast<const double*>(fields.data()),
                                                    offset,
                                                    static_cast<const double*>(increment.data()),
                                                    static_cast<const double*>(decay.data()),
                                                    low,
                                                    high,
                                                    seed,
                                                    sweep_offset,
                                                    n_sweeps,
                                                    in_place(spins, {n_walkers, n}, "spins"),
                                                    in_place(log_g, {n_walkers, n_levels}, "log_g"),
                                                    in_place(histogram, {n_walkers, n_levels}, "histogram"),
                                                    in_place(visited, {n_walkers, n_levels}, "visited"),
                                                    in_place(way, {n_walkers}, "way"),
                                                    in_place(trips, {n_walkers}, "trips"),
                                                    runtime::checked_threads(num_threads)});
      },
      py::arg("couplings").noconvert(), py::arg("fields").noconvert(), py::kw_only(), py::arg("offset"),
      py::arg("increment").noconvert(), py::arg("decay").noconvert(), py::arg("low"), py::arg("high"),
      py::arg("spins").noconvert(), py::arg("log_g").noconvert(), py::arg("histogram").noconvert(),
      py::arg("visited").noconvert(), py::arg("way").noconvert(), py::arg("trips").noconvert(), py::arg("n_sweeps"),
      py::arg("seed"), py::arg("sweep_offset"), py::arg("num_threads"),
      "Moves walkers on, in place: spins, log_g, histogram, visited, way and trips.");
}

}  // namespace vfe::bindings
