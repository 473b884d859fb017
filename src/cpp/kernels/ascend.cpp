#include "ascend.hpp"

#include "../numerics/config.hpp"
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

// x', u' and s' from the gradients without decay.
template <class T>
VFE_HD void update(const AscendArgs& args, const Row<T>& row, const T* __restrict g) {
  const std::int64_t n = args.n_columns;
  const T rate = static_cast<T>(args.rate), momentum = static_cast<T>(args.momentum);
  const T decay = static_cast<T>(args.decay);
  const T* __restrict x = row.x;
  T* __restrict new_x = row.new_x;
  if (row.squares != nullptr) {
    const T memory = static_cast<T>(args.memory), epsilon = static_cast<T>(args.epsilon);
    const T *__restrict u = row.velocity, *__restrict s = row.squares;
    T *__restrict new_u = row.new_velocity, *__restrict new_s = row.new_squares;
    for (std::int64_t k = 0; k < n; ++k) {
      const T slope = g[k] - decay * x[k];
      new_u[k] = momentum * u[k] + (T(1) - momentum) * slope;
      new_s[k] = memory * s[k] + (T(1) - memory) * (slope * slope);
      T root;
      if constexpr (sizeof(T) == 4) {
        root = __builtin_sqrtf(new_s[k]);
      } else {
        root = __builtin_sqrt(new_s[k]);
      }
      new_x[k] = x[k] + rate * new_u[k] / (root + epsilon);
    }
  } else if (row.velocity != nullptr) {
    const T* __restrict u = row.velocity;
    T* __restrict new_u = row.new_velocity;
    for (std::int64_t k = 0; k < n; ++k) {
      new_u[k] = momentum * u[k] + rate * (g[k] - decay * x[k]);
      new_x[k] = x[k] + new_u[k];
    }
  } else {
    for (std::int64_t k = 0; k < n; ++k) new_x[k] = x[k] + rate * (g[k] - decay * x[k]);
  }
}

template <class T>
void run(const AscendArgs& args) {
  const bool centered = args.row_offset != nullptr;
  const std::int64_t n = args.n_columns;
  // Rows of a task do not depend on the threads: they fix the order of the sums.
  const std::int64_t task_rows = n < task_size ? (n > 0 ? task_size / n : 1) : 1;
  const std::int64_t n_tasks = (args.n_rows + task_rows - 1) / task_rows;
  const runtime::Buffer<T> partial(centered ? n_tasks * n : 0);
  const auto do_rows = [&](std::int64_t task) {
    const std::int64_t begin = task * task_rows;
    const std::int64_t end = begin + task_rows < args.n_rows ? begin + task_rows : args.n_rows;
    if (!centered) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Row<T> row(args, i);
        update(args, row, row.gradient);
      }
      return;
    }
    const T *mu = static_cast<const T*>(args.row_offset), *dv = static_cast<const T*>(args.row_change);
    const T *la = static_cast<const T*>(args.column_offset), *dh = static_cast<const T*>(args.column_change);
    const runtime::Buffer<T> g(n);
    T* column_sums = partial.data() + task * n;
    for (std::int64_t j = 0; j < n; ++j) column_sums[j] = T(0);
    for (std::int64_t i = begin; i < end; ++i) {
      const Row<T> row(args, i);
      for (std::int64_t j = 0; j < n; ++j) {
        g[j] = (row.gradient[j] - mu[i] * dh[j]) - dv[i] * la[j];
        column_sums[j] += mu[i] * g[j];
      }
      T sums[lanes] = {}, sum = T(0);
      std::int64_t j = 0;
      for (; j + lanes <= n; j += lanes) {
        for (std::int64_t l = 0; l < lanes; ++l) sums[l] += g[j + l] * la[j + l];
      }
      for (; j < n; ++j) sum += g[j] * la[j];
      for (std::int64_t l = 0; l < lanes; ++l) sum += sums[l];
      static_cast<T*>(args.row_sums)[i] = sum;
      update(args, row, g.data());
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
