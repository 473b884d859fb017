#include "../kernels/cumulants.hpp"

#include <pybind11/stl.h>

#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {
namespace {

using Doubles = py::array_t<double, py::array::c_style>;
using Optional = std::optional<Doubles>;

// Joins two parts' sums of every row.
template <int width, int powers>
void join(const double* a, const double* b, double* out, py::ssize_t n) {
  using Sums = numerics::PowerSums<width, powers, double>;
  constexpr py::ssize_t size = kernels::sums_size(width, powers);
  static_assert(sizeof(Sums) == size * sizeof(double));
  for (py::ssize_t k = 0; k < n; ++k) {
    Sums sums, other;
    __builtin_memcpy(&sums, a + k * size, sizeof sums);
    __builtin_memcpy(&other, b + k * size, sizeof other);
    sums.join(other);
    __builtin_memcpy(out + k * size, &sums, sizeof sums);
  }
}

}  // namespace

void bind_cumulants(py::module_& module) {
  // A part of what the kernel gives, where x is: values, errors, estimates without each block, sums; None for what is
  // not wanted.
  const auto outputs = [](const py::array& x, const std::vector<py::ssize_t>& batch, std::int64_t order,
                          const std::string& wanted, py::ssize_t n_blocks, py::ssize_t size) {
    const auto of = [&](char letter, std::vector<py::ssize_t> first, std::vector<py::ssize_t> last) -> Optional {
      if (wanted.find(letter) == std::string::npos) return std::nullopt;
      first.insert(first.end(), batch.begin(), batch.end());
      first.insert(first.end(), last.begin(), last.end());
      return new_array_like(x, py::dtype::of<double>(), first);
    };
    return std::tuple{of('v', {}, {order}), of('e', {}, {order}), of('r', {n_blocks}, {order}),
                      of('s', {}, {n_blocks, size})};
  };
  const auto data_of = [](Optional& array) { return array ? array->mutable_data() : nullptr; };

  module.def(
      "cumulants",
      [=](const py::array& x, const std::optional<py::array>& weights, std::int64_t order, bool unbiased,
          const Doubles& counts, const std::string& wanted, int num_threads, bool cuda) {
        const kernels::Real real = real_of(x, "x");
        if (x.ndim() < 1) throw ArgumentError("x: expected at least one axis");
        if ((x.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
          throw ArgumentError("x: expected an array that is aligned in memory");
        }
        if (weights && (weights->ndim() != x.ndim() || !std::equal(x.shape(), x.shape() + x.ndim(), weights->shape()) ||
                        real_of(*weights, "weights") != kernels::Real::float64)) {
          throw ArgumentError("weights: expected float64 of the shape of x, " + shape_text(x));
        }
        const py::ssize_t n_dims = x.ndim() - 1;
        const std::vector<std::int64_t> shape(x.shape(), x.shape() + n_dims);
        std::vector<std::int64_t> strides(x.strides(), x.strides() + n_dims), weight_strides(n_dims);
        if (weights) weight_strides.assign(weights->strides(), weights->strides() + n_dims);
        std::int64_t n_rows = 1;
        for (const std::int64_t length : shape) n_rows *= length;
        const std::int64_t width = kernels::sums_width(order);
        const std::int64_t size =
            kernels::sums_size(width, kernels::weight_powers(width, weights.has_value(), unbiased));
        auto [values, errors, replicates, sums] =
            outputs(x, {shape.begin(), shape.end()}, order, wanted, counts.size(), size);
        bool bad_weights = false;
        run(&runtime::KernelTable::cumulants,
            {real,
             n_dims,
             shape.data(),
             n_rows,
             x.shape(n_dims),
             {x.data(), strides.data(), x.strides(n_dims)},
             {weights ? weights->data() : nullptr, weight_strides.data(), weights ? weights->strides(n_dims) : 0},
             order,
             weights.has_value(),
             unbiased,
             counts.size(),
             counts.data(),
             data_of(sums),
             data_of(values),
             data_of(errors),
             data_of(replicates),
             &bad_weights,
             runtime::checked_threads(num_threads)},
            device_of(cuda));
        if (bad_weights) throw ArgumentError("weights: expected finite numbers >= 0, got others");
        return std::tuple{values, errors, replicates, sums};
      },
      py::arg("x").noconvert(), py::arg("weights"), py::arg("order"), py::arg("unbiased"), py::arg("counts"),
      py::arg("wanted"), py::arg("num_threads") = 0, py::arg("cuda") = false,
      "Of `wanted`, letters of 'vers': cumulants along the last axis, their errors, estimates without each block, "
      "sums.");

  module.def(
      "cumulant_terms",
      [](double n, bool unbiased) {
        const numerics::CumulantCoefficients coefficients = numerics::coefficients_of(n, unbiased);
        py::list terms;
        for (int t = 1; t < numerics::n_cumulant_terms; ++t) {
          const numerics::CumulantTerm& term = numerics::cumulant_terms[t];
          terms.append(py::make_tuple(term.order, term.part, term.rest, coefficients.of[t]));
        }
        return terms;
      },
      "The products of moments in cumulants of n numbers: (order, part, rest, coefficient), where the product is the "
      "moment `part` times product `rest`, counted from 1; 0 is none.",
      py::arg("n"), py::arg("unbiased"));

  module.def(
      "cumulants_of_sums",
      [=](Doubles sums, std::int64_t order, bool weighted, bool unbiased, const Doubles& counts,
          const std::string& wanted, int num_threads, bool cuda) {
        const std::int64_t width = kernels::sums_width(order);
        const std::int64_t size = kernels::sums_size(width, kernels::weight_powers(width, weighted, unbiased));
        if (sums.ndim() != 3 || sums.shape(1) != counts.size() || sums.shape(2) != size) {
          throw ArgumentError("sums: expected (n_rows, n_blocks, " + std::to_string(size) + "), got " +
                              shape_text(sums));
        }
        auto [values, errors, replicates, none] = outputs(sums, {sums.shape(0)}, order, wanted, counts.size(), size);
        bool bad_weights = false;
        run(&runtime::KernelTable::cumulants,
            {kernels::Real::float64,
             0,
             nullptr,
             sums.shape(0),
             0,
             {nullptr, nullptr, 0},
             {nullptr, nullptr, 0},
             order,
             weighted,
             unbiased,
             counts.size(),
             counts.data(),
             sums.mutable_data(),
             data_of(values),
             data_of(errors),
             data_of(replicates),
             &bad_weights,
             runtime::checked_threads(num_threads)},
            device_of(cuda));
        return std::tuple{values, errors, replicates};
      },
      py::arg("sums"), py::kw_only(), py::arg("order"), py::arg("weighted"), py::arg("unbiased"), py::arg("counts"),
      py::arg("wanted"), py::arg("num_threads") = 0, py::arg("cuda") = false, "The same from sums, without data.");

  module.def(
      "join_power_sums",
      [](const Doubles& a, const Doubles& b) {
        const py::ssize_t size = a.ndim() > 0 ? a.shape(a.ndim() - 1) : 0;
        if (a.ndim() != b.ndim() || !std::equal(a.shape(), a.shape() + a.ndim(), b.shape())) {
          throw ArgumentError("b: expected the shape of a, " + shape_text(a) + ", got " + shape_text(b));
        }
        constexpr int small = kernels::small_width, large = kernels::large_width;
        void (*of_size)(const double*, const double*, double*, py::ssize_t) =
            size == kernels::sums_size(small, 1)       ? join<small, 1>
            : size == kernels::sums_size(large, 1)     ? join<large, 1>
            : size == kernels::sums_size(small, small) ? join<small, small>
            : size == kernels::sums_size(large, large) ? join<large, large>
                                                       : nullptr;
        if (of_size == nullptr) throw ArgumentError("a: expected power sums, got " + shape_text(a));
        Doubles out(std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()));
        of_size(a.data(), b.data(), out.mutable_data(), a.size() / size);
        return out;
      },
      py::arg("a"), py::arg("b"), "Power sums of what two parts hold together.");
}

}  // namespace vfe::bindings
