#include "elementwise.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t chunk = 1 << 14;

template <class T, class F>
void map(const ElementwiseArgs& args, const F& f) {
  const auto do_chunk = [&](std::int64_t task) {
    const std::int64_t first = task * chunk;
    const std::int64_t size = args.size - first < chunk ? args.size - first : chunk;
    const T* __restrict x = static_cast<const T*>(args.x) + first;
    T* __restrict y = static_cast<T*>(args.y) + first;
    for (std::int64_t k = 0; k < size; ++k) y[k] = f(x[k]);
  };
  runtime::parallel_for((args.size + chunk - 1) / chunk, 16.0 * static_cast<double>(args.size), args.num_threads,
                        do_chunk);
}

template <class T>
void run(const ElementwiseArgs& args) {
  switch (args.function) {
    case Function::exp:
      return map<T>(args, [](T x) { return numerics::exp(x); });
    case Function::expm1:
      return map<T>(args, [](T x) { return numerics::expm1(x); });
    case Function::exp_excess:
      return map<T>(args, [](T x) { return numerics::exp_excess(x); });
    case Function::log:
      return map<T>(args, [](T x) { return numerics::log(x); });
    case Function::log1p_unit:
      return map<T>(args, [](T x) { return numerics::log1p_unit(x); });
    case Function::sigmoid:
      return map<T>(args, [](T x) { return numerics::sigmoid(x); });
    case Function::softplus:
      return map<T>(args, [](T x) { return numerics::softplus(x); });
    case Function::coth_excess:
      return map<T>(args, [](T x) { return static_cast<T>(numerics::coth_excess(static_cast<double>(x))); });
    case Function::coth_excess_slope:
      return map<T>(args, [](T x) { return static_cast<T>(numerics::coth_excess_slope(static_cast<double>(x))); });
  }
}

}  // namespace

void elementwise(const ElementwiseArgs& args) { args.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
