#include "likelihood.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t numbers_per_task = 1 << 15;
template <class T>
constexpr std::int64_t lanes = 64 / static_cast<std::int64_t>(sizeof(T));
constexpr std::int64_t numbers_per_log = 512;  // factors 1 + e^-|l| <= 2: their product stays a double, of a lane a T

// Of at most numbers_per_log units: sum_i x_i l_i - max(l_i, 0), less ln prod_i (1 + e^-|l_i|).
template <class T>
double log_prob_of_block(const T* __restrict logits, const T* __restrict x, std::int64_t n) {
  constexpr std::int64_t width = lanes<T>;
  alignas(64) T linear[width], product[width];
  for (std::int64_t k = 0; k < width; ++k) {
    linear[k] = T(0);
    product[k] = T(1);
  }
  const auto add = [&](const T* __restrict of, const T* __restrict to) {
    for (std::int64_t k = 0; k < width; ++k) {
      const T l = of[k];
      linear[k] += to[k] * l - (l > T(0) ? l : T(0));
      product[k] *= T(1) + numerics::exp_negative(-numerics::magnitude(l));
    }
  };
  std::int64_t first = 0;
  for (; first + width <= n; first += width) add(logits + first, x + first);
  if (first < n) {
    alignas(64) T of[width], to[width];
    for (std::int64_t k = 0; k < width; ++k) {
      of[k] = first + k < n ? logits[first + k] : T(-1e30);  // of a unit that is surely 0
      to[k] = first + k < n ? x[first + k] : T(0);
    }
    add(of, to);
  }
  double sum = 0, all = 1;
  for (std::int64_t k = 0; k < width; ++k) {
    sum += static_cast<double>(linear[k]);
    all *= static_cast<double>(product[k]);
  }
  return sum - numerics::log(all);
}

template <class T>
double log_prob(const T* logits, const T* x, std::int64_t n) {
  double sum = 0;
  for (std::int64_t first = 0; first < n; first += numbers_per_log) {
    sum += log_prob_of_block(logits + first, x + first, n - first < numbers_per_log ? n - first : numbers_per_log);
  }
  return sum;
}

template <class T>
void differentiate(const T* __restrict logits, const T* __restrict x, T g, std::int64_t n, T* __restrict grad) {
  for (std::int64_t k = 0; k < n; ++k) {
    const T l = logits[k], e = numerics::exp_negative(-numerics::magnitude(l));
    grad[k] = g * (x[k] - (l < T(0) ? e : T(1)) / (T(1) + e));
  }
}

template <class T>
void run(const LikelihoodArgs& args) {
  const T *logits = static_cast<const T*>(args.logits), *x = static_cast<const T*>(args.x);
  const std::int64_t n = args.n_units, n_all = args.n_samples * args.n_rows;
  const auto rows = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t k = first; k < last; ++k) {
      const T *of = logits + k * n, *to = x + k % args.n_rows * n;
      if (args.log_prob != nullptr) static_cast<T*>(args.log_prob)[k] = static_cast<T>(log_prob(of, to, n));
      if (args.grad_logits != nullptr) {
        differentiate(of, to, static_cast<const T*>(args.grad)[k], n, static_cast<T*>(args.grad_logits) + k * n);
      }
    }
  };
  const double nanoseconds = 0.4 * static_cast<double>(n_all) * static_cast<double>(n);
  const std::int64_t most = n < numbers_per_task ? numbers_per_task / (n > 0 ? n : 1) : 1;
  const std::int64_t per_task = runtime::items_per_task(n_all, most, nanoseconds, args.num_threads);
  runtime::parallel_for((n_all + per_task - 1) / per_task, nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * per_task;
    rows(first, n_all - first < per_task ? n_all : first + per_task);
  });
}

}  // namespace

void likelihood(const LikelihoodArgs& args) { args.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
