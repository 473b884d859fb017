#include "ascend.hpp"

#include <type_traits>

#include "../numerics/config.hpp"
#include "../numerics/elementary.hpp"
#include "../runtime/scratch.hpp"
#include "../runtime/threads.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t lanes = 16;
constexpr std::int64_t task_size = 1 << 14;  // numbers

template <class T>
struct Row {
  const T *x, *gradient, *velocity, *squares;
  T *new_x, *new_velocity, *new_squares;

  Row(const AscendArgs& args, std::int64_t row)
      : x(at(args.x, row, args)),
        gradient(at(args.gradient, row, args)),
        velocity(at(args.velocity, row, args)),
        squares(at(args.squares, row, args)),
        new_x(at(args.new_x, row, args)),
        new_velocity(at(args.new_velocity, row, args)),
        new_squares(at(args.new_squares, row, args)) {}

 private:
  static const T* at(const void* array, std::int64_t row, const AscendArgs& args) {
    return array != nullptr ? static_cast<const T*>(array) + row * args.n_columns : nullptr;
  }
  static T* at(void* array, std::int64_t row, const AscendArgs& args) {
    return array != nullptr ? static_cast<T*>(array) + row * args.n_columns : nullptr;
  }
};

// x', u' and s' of `count` columns from `first` on, given their gradients without decay. In arrays of known length.
template <class T, class Count>
VFE_HD void update(const AscendArgs& args, const Row<T>& row, const T (&g)[lanes], std::int64_t first, Count count) {
  const T rate = static_cast<T>(args.rate), momentum = static_cast<T>(args.momentum);
  const T decay = static_cast<T>(args.decay);
  T x[lanes], u[lanes], s[lanes], slope[lanes];
  for (std::int64_t k = 0; k < count; ++k) {
    x[k] = row.x[first + k];
    slope[k] = g[k] - decay * x[k];
  }
  if (row.squares != nullptr) {
    const T memory = static_cast<T>(args.memory), epsilon = static_cast<T>(args.epsilon);
    for (std::int64_t k = 0; k < count; ++k) u[k] = row.velocity[first + k];
    for (std::int64_t k = 0; k < count; ++k) s[k] = row.squares[first + k];
    for (std::int64_t k = 0; k < count; ++k) u[k] = momentum * u[k] + (T(1) - momentum) * slope[k];
    for (std::int64_t k = 0; k < count; ++k) s[k] = memory * s[k] + (T(1) - memory) * (slope[k] * slope[k]);
    for (std::int64_t k = 0; k < count; ++k) x[k] = x[k] + rate * u[k] / (numerics::square_root(s[k]) + epsilon);
    for (std::int64_t k = 0; k < count; ++k) row.new_velocity[first + k] = u[k];
    for (std::int64_t k = 0; k < count; ++k) row.new_squares[first + k] = s[k];
  } else if (row.velocity != nullptr) {
    for (std::int64_t k = 0; k < count; ++k) u[k] = momentum * row.velocity[first + k] + rate * slope[k];
    for (std::int64_t k = 0; k < count; ++k) x[k] += u[k];
    for (std::int64_t k = 0; k < count; ++k) row.new_velocity[first + k] = u[k];
  } else {
    for (std::int64_t k = 0; k < count; ++k) x[k] += rate * slope[k];
  }
  for (std::int64_t k = 0; k < count; ++k) row.new_x[first + k] = x[k];
}

// Calls body(first, count) for the columns of a row; all but the last counts are constants.
template <class Body>
VFE_HD void each_part(std::int64_t n, const Body& body) {
  std::int64_t first = 0;
  for (; first + lanes <= n; first += lanes) body(first, std::integral_constant<std::int64_t, lanes>{});
  if (first < n) body(first, n - first);
}

template <class T>
void run(const AscendArgs& args) {
  const bool centered = args.row_offset != nullptr;
  const std::int64_t n = args.n_columns;
  // Rows of a task do not depend on the threads: they fix the order of the sums.
  const std::int64_t task_rows = n < task_size ? (n > 0 ? task_size / n : 1) : 1;
  const std::int64_t n_tasks = (args.n_rows + task_rows - 1) / task_rows;
  const runtime::Buffer<T> partial(centered ? n_tasks * n : 0);
  const T *mu = static_cast<const T*>(args.row_offset), *dv = static_cast<const T*>(args.row_change);
  const T *la = static_cast<const T*>(args.column_offset), *dh = static_cast<const T*>(args.column_change);
  const auto do_rows = [&](std::int64_t task) {
    const std::int64_t begin = task * task_rows;
    const std::int64_t end = begin + task_rows < args.n_rows ? begin + task_rows : args.n_rows;
    T* column_sums = partial.data() + task * n;
    if (centered) {
      for (std::int64_t j = 0; j < n; ++j) column_sums[j] = T(0);
    }
    for (std::int64_t i = begin; i < end; ++i) {
      const Row<T> row(args, i);
      const T mu_i = centered ? mu[i] : T(0), dv_i = centered ? dv[i] : T(0);
      T sums[lanes] = {};
      each_part(n, [&](std::int64_t first, auto count) {
        T g[lanes];
        for (std::int64_t k = 0; k < count; ++k) g[k] = row.gradient[first + k];
        if (centered) {
          T l[lanes], c[lanes];
          for (std::int64_t k = 0; k < count; ++k) l[k] = la[first + k];
          for (std::int64_t k = 0; k < count; ++k) g[k] = (g[k] - mu_i * dh[first + k]) - dv_i * l[k];
          for (std::int64_t k = 0; k < count; ++k) c[k] = column_sums[first + k] + mu_i * g[k];
          for (std::int64_t k = 0; k < count; ++k) column_sums[first + k] = c[k];
          for (std::int64_t k = 0; k < count; ++k) sums[k] += g[k] * l[k];
        }
        update(args, row, g, first, count);
      });
      if (!centered) continue;
      T sum = T(0);
      for (std::int64_t k = 0; k < lanes; ++k) sum += sums[k];
      static_cast<T*>(args.row_sums)[i] = sum;
    }
  };
  const double nanoseconds = static_cast<double>(args.n_rows) * static_cast<double>(n) * 0.5;
  runtime::parallel_for(n_tasks, nanoseconds, args.num_threads, do_rows);
  if (!centered) return;
  T* column_sums = static_cast<T*>(args.column_sums);
  for (std::int64_t j = 0; j < n; ++j) column_sums[j] = T(0);
  for (std::int64_t task = 0; task < n_tasks; ++task) {
    for (std::int64_t j = 0; j < n; ++j) column_sums[j] += partial[task * n + j];
  }
}

}  // namespace

void ascend(const AscendArgs& args) { args.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
