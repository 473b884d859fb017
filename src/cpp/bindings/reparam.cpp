#include "../kernels/reparam.hpp"

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>

#include "../numerics/noise.hpp"
#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {
namespace {

using kernels::Family;
using Optional = std::optional<py::array>;

// Where the first number is that is not finite (or that is NaN), if there is one.
template <class T>
std::int64_t first_bad(const T* x, std::int64_t n, bool infinity_is_bad) {
  for (std::int64_t k = 0; k < n; ++k) {
    if (infinity_is_bad ? !std::isfinite(x[k]) : std::isnan(x[k])) return k;
  }
  return -1;
}

void refuse(const py::array& given, const char* name, bool infinity_is_bad) {
  const py::array array = on_device(given) ? to_host(given) : given;
  const bool single = array.itemsize() == 4;
  const std::int64_t at = single ? first_bad(static_cast<const float*>(array.data()), array.size(), infinity_is_bad)
                                 : first_bad(static_cast<const double*>(array.data()), array.size(), infinity_is_bad);
  if (at < 0) return;
  std::string place;
  std::int64_t rest = at;
  for (py::ssize_t axis = array.ndim() - 1; axis >= 0; --axis) {
    place = std::to_string(rest % array.shape(axis)) + (place.empty() ? "" : ", " + place);
    rest /= array.shape(axis);
  }
  char got[32];
  std::snprintf(got, sizeof got, "%g",
                single ? static_cast<double>(static_cast<const float*>(array.data())[at])
                       : static_cast<const double*>(array.data())[at]);
  throw ArgumentError(infinity_is_bad ? std::string(name) + ": expected finite numbers, got " + got + " at (" + place +
                                            (array.ndim() == 1 ? ",)" : ")")
                                      : std::string("mu: expected numbers whose ") + name +
                                            " is in range, got parameters of which it is nan at (" + place +
                                            (array.ndim() == 1 ? ",)" : ")"));
}

// What forward and backward share.
struct Call {
  kernels::ReparamArgs args{};
  py::array mu;
  std::vector<py::ssize_t> shape;  // of mu
  std::vector<std::pair<const char*, const py::array*>> inputs;
  bool not_finite = false;
  runtime::Device device;

  Call(int family_, const py::array& mu_, const Optional& log_var, const Optional& prior_mean,
       const Optional& prior_log_var, std::int64_t n_samples, double temperature, std::uint64_t seed,
       std::int64_t row_offset, int num_threads, bool cuda)
      : mu(mu_), device(device_of(cuda)) {
    const auto family = static_cast<Family>(family_);  // an int: to ask an enum takes as long as a small kernel
    if (family < Family::gaussian || family > Family::gumbel_softmax) throw ArgumentError("family: expected a Family");
    args.real = real_of(mu, "mu");
    args.family = family;
    const bool choice = family == Family::gumbel_softmax;
    if (mu.ndim() != (choice ? 3 : 2)) {
      throw ArgumentError(std::string("mu: expected ") +
                          (choice ? "(batch, n_latents, n_categories)" : "(batch, n_latents)") + ", got " +
                          shape_text(mu));
    }
    shape.assign(mu.shape(), mu.shape() + mu.ndim());
    args.n_samples = n_samples;
    args.n_rows = shape[0];
    args.n_latents = shape[1];
    args.n_categories = choice ? shape[2] : 1;
    if (choice && args.n_categories < 1) throw ArgumentError("mu: expected n_categories >= 1, got 0");
    args.mu = take(mu, "mu", shape);
    if (kernels::is_relaxed(family) == log_var.has_value()) {
      throw ArgumentTypeError(log_var ? "log_var: expected None, since relaxed families have logits alone"
                                      : "log_var: expected (batch, n_latents), got None");
    }
    if (log_var) args.log_var = take(*log_var, "log_var", shape);
    if (prior_mean) {
      std::vector<py::ssize_t> of_prior = shape;
      if (prior_mean->ndim() == 0 || prior_mean->shape(0) != shape[0] || prior_mean->ndim() != mu.ndim())
        of_prior[0] = 1;
      args.prior_stride = prior_mean->ndim() > 0 && of_prior[0] == 1 ? 0 : args.n_latents * args.n_categories;
      args.prior_mean = take(*prior_mean, "prior", of_prior);
      if (!kernels::is_relaxed(family)) {
        if (!prior_log_var) throw ArgumentTypeError("prior: expected a mean and a log variance");
        args.prior_log_var = take(*prior_log_var, "prior", of_prior);
      }
    }
    args.temperature = temperature;
    args.seed = seed;
    args.row_offset = row_offset;
    args.not_finite = &not_finite;
    args.num_threads = runtime::checked_threads(num_threads);
  }

  const void* take(const py::array& array, const char* name, const std::vector<py::ssize_t>& expected) {
    check_reals(array, args.real, expected, name);
    inputs.emplace_back(name, &array);
    return array.data();
  }

  // Where mu is.
  py::array result(const std::vector<py::ssize_t>& of_shape) const { return new_array_like(mu, mu.dtype(), of_shape); }

  // Of what was not finite: the input that is to blame, else a result that is no number.
  void launch(std::initializer_list<std::pair<const char*, const py::array*>> results) {
    run(&runtime::KernelTable::reparam, args, device);
    if (!not_finite) return;
    for (const auto& [name, array] : inputs) refuse(*array, name, true);
    for (const auto& [name, array] : results) refuse(*array, name, false);
  }
};

}  // namespace

void bind_reparam(py::module_& module) {
  py::native_enum<Family>(module, "Family", "enum.IntEnum", "Families of distributions that are sampled from noise.")
      .value("gaussian", Family::gaussian)
      .value("laplace", Family::laplace)
      .value("logistic", Family::logistic)
      .value("log_normal", Family::log_normal)
      .value("concrete", Family::concrete)
      .value("gumbel_softmax", Family::gumbel_softmax)
      .finalize();

  module.def(
      "reparameterize",
      [](int family, const py::array& mu, const Optional& log_var, const Optional& prior_mean,
         const Optional& prior_log_var, std::int64_t n_samples, double temperature, std::uint64_t seed,
         std::int64_t row_offset, int num_threads, bool with_log_prior, bool cuda) {
        Call call(family, mu, log_var, prior_mean, prior_log_var, n_samples, temperature, seed, row_offset, num_threads,
                  cuda);
        Optional log_prior;
        if (with_log_prior) {
          log_prior = call.result({n_samples, call.shape[0]});
          call.args.log_prior = log_prior->mutable_data();
        }
        check(call.args);
        std::vector<py::ssize_t> of_samples = call.shape;
        of_samples.insert(of_samples.begin(), n_samples);
        py::array sample = call.result(of_samples), kl = call.result({call.shape[0]}),
                  log_q = call.result({n_samples, call.shape[0]});
        call.args.sample = sample.mutable_data();
        call.args.kl = kl.mutable_data();
        call.args.log_q = log_q.mutable_data();
        call.launch({{"kl", &kl}, {"log_q", &log_q}});
        return std::tuple{sample, kl, log_q, log_prior};
      },
      py::arg("family"), py::arg("mu").noconvert(), py::arg("log_var").noconvert(), py::arg("prior_mean").noconvert(),
      py::arg("prior_log_var").noconvert(), py::arg("n_samples"), py::arg("temperature"), py::arg("seed"),
      py::arg("row_offset"), py::arg("num_threads"), py::arg("log_prior") = false, py::arg("cuda") = false,
      "Samples, KL, log q and, if asked for, ln N(z; 0, 1).");

  module.def(
      "reparameterize_backward",
      [](int family, const py::array& mu, const Optional& log_var, const Optional& prior_mean,
         const Optional& prior_log_var, std::int64_t n_samples, double temperature, std::uint64_t seed,
         std::int64_t row_offset, int num_threads, const Optional& grad_sample, const Optional& grad_kl,
         const Optional& grad_log_q, const Optional& sample, const Optional& grad_log_prior, bool cuda) {
        Call call(family, mu, log_var, prior_mean, prior_log_var, n_samples, temperature, seed, row_offset, num_threads,
                  cuda);
        std::vector<py::ssize_t> of_samples = call.shape;
        of_samples.insert(of_samples.begin(), n_samples);
        if (sample) call.args.drawn = call.take(*sample, "sample", of_samples);
        if (grad_log_prior) {
          call.args.grad_log_prior = call.take(*grad_log_prior, "grad_log_prior", {n_samples, call.shape[0]});
        }
        check(call.args);
        if (grad_sample) call.args.grad_sample = call.take(*grad_sample, "grad_sample", of_samples);
        if (grad_kl) call.args.grad_kl = call.take(*grad_kl, "grad_kl", {call.shape[0]});
        if (grad_log_q) call.args.grad_log_q = call.take(*grad_log_q, "grad_log_q", {n_samples, call.shape[0]});
        py::array grad_mu = call.result(call.shape);
        call.args.grad_mu = grad_mu.mutable_data();
        if (kernels::is_relaxed(call.args.family)) {
          call.launch({{"gradient", &grad_mu}});
          return std::tuple{grad_mu, Optional()};
        }
        py::array grad_log_var = call.result(call.shape);
        call.args.grad_log_var = grad_log_var.mutable_data();
        call.launch({{"gradient", &grad_mu}, {"gradient", &grad_log_var}});
        return std::tuple{grad_mu, Optional(grad_log_var)};
      },
      py::arg("family"), py::arg("mu").noconvert(), py::arg("log_var").noconvert(), py::arg("prior_mean").noconvert(),
      py::arg("prior_log_var").noconvert(), py::arg("n_samples"), py::arg("temperature"), py::arg("seed"),
      py::arg("row_offset"), py::arg("num_threads"), py::arg("grad_sample").noconvert(), py::arg("grad_kl").noconvert(),
      py::arg("grad_log_q").noconvert(), py::arg("sample").noconvert() = py::none(),
      py::arg("grad_log_prior").noconvert() = py::none(), py::arg("cuda") = false,
      "Derivatives by mu and log_var, with the same noise: drawn again, or found from the samples.");

  // Single draws, for the tests of noise.
  module.def(
      "noise_float32",
      [](std::uint32_t word) {
        return std::tuple{numerics::exponential(word), numerics::laplace(word), numerics::logistic(word)};
      },
      py::arg("word"), "Exponential, Laplace and logistic numbers of float32 from a word.");
  module.def(
      "noise",
      [](std::uint32_t first, std::uint32_t second) {
        return std::tuple{numerics::exponential(first, second), numerics::laplace(first, second),
                          numerics::logistic(first, second)};
      },
      py::arg("first"), py::arg("second"), "Exponential, Laplace and logistic numbers of float64 from two words.");
}

}  // namespace vfe::bindings
