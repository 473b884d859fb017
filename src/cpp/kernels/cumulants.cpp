#include "cumulants.hpp"

#include <atomic>

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "vectors.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::PowerSums;

// Rows that are done together, or neighbors of one row: the lanes of all arrays below.
constexpr std::int64_t lanes = 8;
using Lanes = Row<double>;
static_assert(strip_width<double> == lanes);

constexpr std::int64_t panel_numbers = 2048;                     // 16 kB of them: half of a first-level cache
constexpr std::int64_t first_numbers = 16 * lanes;               // whose mean is tried as the center of a row
constexpr int sums_together = 20;                                // that find room in registers
constexpr std::int64_t panel_height = panel_numbers / lanes;     // of rows side by side
constexpr std::int64_t short_row = 512;                          // rows up to here are turned, to lie side by side
constexpr std::int64_t segment_numbers = std::int64_t{1} << 17;  // of a block, what a thread takes at a time
constexpr std::int64_t few_numbers = std::int64_t{1} << 14;      // of short segments, a thread takes so many together
constexpr std::int64_t groups_together = 16;                     // of rows side by side: a kilobyte of neighbors
constexpr std::int64_t most_sets = 256;                          // of groups, of a task
constexpr std::int64_t many_sets = 64;                           // enough to be shared out among threads

template <class T>
VFE_HD T number_at(const char* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

// `height` times eight numbers: number l of line r at x[r * stride + l].
template <class T>
struct Panel {
  const T* x;
  const double* w;  // null without weights
  std::int64_t height, stride, w_stride;
  std::int64_t ahead = 0;  // elements from here to what will be read next, for which memory is asked in time
};

constexpr std::int64_t width_of_vector = vector_bytes / static_cast<std::int64_t>(sizeof(double));

// Adds the sums of x and of w, lane by lane: of four lines in turns, so that additions need not wait for each other.
// True if a weight is none.
template <bool weighted, class T>
VFE_HD bool add_means(const Panel<T>& panel, double (&sum)[lanes], double (&weight)[lanes]) {
  using V = Vector<double>;
  auto bad = V{} != V{};
  for (std::int64_t l = 0; l < lanes; l += width_of_vector) {
    Vector<double> sums[4] = {}, weights[4] = {};
    const auto add_line = [&](std::int64_t r, std::int64_t turn) {
      const Vector<double> x = load(panel.x + r * panel.stride + l);
      if constexpr (weighted) {
        const Vector<double> w = load(panel.w + r * panel.w_stride + l);
        sums[turn] += w * x;
        weights[turn] += w;
        bad |= ~((w >= V{}) & (w <= V{} + std::numeric_limits<double>::max()));
      } else {
        sums[turn] += x;
      }
    };
    std::int64_t r = 0;
    for (; r + 4 <= panel.height; r += 4) {
      VFE_UNROLL
      for (std::int64_t turn = 0; turn < 4; ++turn) add_line(r + turn, turn);
    }
    for (; r < panel.height; ++r) add_line(r, 0);
    const Vector<double> total = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    const Vector<double> of_weights = (weights[0] + weights[1]) + (weights[2] + weights[3]);
    for (std::int64_t k = 0; k < width_of_vector; ++k) {
      sum[l + k] += total[k];
      weight[l + k] += weighted ? of_weights[k] : static_cast<double>(panel.height);
    }
  }
  bool any = false;
  for (std::int64_t k = 0; k < width_of_vector; ++k) any = any || bad[k] != 0;
  return any;
}

// The power sums about `center` of each lane, or what they grow by, of weights to the powers first + 1 to first + some:
// so few that their sums stay in registers.
template <int width, int first, int some, bool weighted, bool add, class T>
VFE_HD void find_some_powers(const Panel<T>& panel, const double (&center)[lanes],
                             double (&sums)[some][width + 1][lanes]) {
  using V = Vector<double>;
  for (std::int64_t l = 0; l < lanes; l += width_of_vector) {
    const V c = load(center + l);
    V s[some][width + 1] = {};
    for (std::int64_t r = 0; r < panel.height; ++r) {
      const V d = load(panel.x + r * panel.stride + l) - c;
      __builtin_prefetch(panel.x + r * panel.stride + l + panel.ahead, 0, 2);
      V power[width + 1];
      power[1] = d;
      VFE_UNROLL
      for (int q = 2; q <= width; ++q) power[q] = power[q / 2] * power[q - q / 2];
      if constexpr (weighted) {
        const V w = load(panel.w + r * panel.w_stride + l);
        V times = w;
        VFE_UNROLL
        for (int k = 0; k < first; ++k) times *= w;
        VFE_UNROLL
        for (int k = 0; k < some; ++k, times *= w) {
          s[k][0] += times;
          VFE_UNROLL
          for (int q = 1; q <= width; ++q) s[k][q] += times * power[q];
        }
      } else {
        VFE_UNROLL
        for (int q = 1; q <= width; ++q) s[0][q] += power[q];
      }
    }
    if constexpr (!weighted) s[0][0] += static_cast<double>(panel.height);
    VFE_UNROLL
    for (int k = 0; k < some; ++k) {
      VFE_UNROLL
      for (int q = 0; q <= width; ++q) {
        V total = s[k][q];
        if constexpr (add) total += load(sums[k][q] + l);
        __builtin_memcpy(sums[k][q] + l, &total, sizeof total);
      }
    }
  }
}
template <int width, int powers, bool weighted, bool add, int first = 0, class T>
VFE_HD void find_powers(const Panel<T>& panel, const double (&center)[lanes],
                        double (&sums)[powers][width + 1][lanes]) {
  constexpr int most = sums_together / (width + 1), some = powers - first < most ? powers - first : most;
  find_some_powers<width, first, some, weighted, add>(
      panel, center, reinterpret_cast<double (&)[some][width + 1][lanes]>(sums[first]));
  if constexpr (first + some < powers) find_powers<width, powers, weighted, add, first + some>(panel, center, sums);
}

// Where the rows of a group of eight begin; missing ones repeat the first.
struct Starts {
  const char *x[lanes], *w[lanes];
};

template <class T, int width, int powers, bool weighted>
struct Reader {
  const CumulantsArgs& args;
  const runtime::Buffer<T> x_panel;  // of numbers that are not where they are wanted
  const runtime::Buffer<double> w_panel;

  using Sums = PowerSums<width, powers, Lanes>;
  using OfRow = PowerSums<width, powers, double>;

  // Neighbors in memory are neighboring rows.
  static bool side_by_side(const CumulantsArgs& given) {
    constexpr std::int64_t size = sizeof(T);
    const std::int64_t last = given.n_dims - 1;
    return given.n_dims > 0 && given.data.strides[last] == size && given.data.stride != size &&
           given.shape[last] >= lanes;
  }

  // Rows in the lanes; else neighbors of one row.
  static bool by_rows(const CumulantsArgs& given) { return side_by_side(given) || given.n <= short_row; }
  static std::int64_t panel_of(const CumulantsArgs& given, const Strided& of, std::int64_t size) {
    return by_rows(given) || of.stride != size ? short_row * lanes : 0;
  }

  explicit Reader(const CumulantsArgs& given)
      : args(given),
        x_panel(panel_of(given, given.data, sizeof(T))),
        w_panel(weighted ? panel_of(given, given.weights, sizeof(double)) : 0) {}

  void note(bool bad) const {
    if (bad) std::atomic_ref<bool>(*args.bad_weights).store(true, std::memory_order_relaxed);
  }

  static const char* start_of(const CumulantsArgs& args, const Strided& of, std::int64_t row) {
    const char* at = static_cast<const char*>(of.data);
    for (std::int64_t d = args.n_dims - 1; d >= 0; --d) {
      at += row % args.shape[d] * of.strides[d];
      row /= args.shape[d];
    }
    return at;
  }

  Starts starts(std::int64_t group) const {
    Starts found;
    for (std::int64_t l = 0; l < lanes; ++l) {
      const std::int64_t row = group * lanes + l < args.n_rows ? group * lanes + l : group * lanes;
      found.x[l] = start_of(args, args.data, row);
      found.w[l] = weighted ? start_of(args, args.weights, row) : nullptr;
    }
    return found;
  }

  // Numbers [first, first + height) of eight rows, side by side.
  Panel<T> turned(const Starts& at, std::int64_t first, std::int64_t height) const {
    Panel<T> panel{x_panel.data(), w_panel.data(), height, lanes, lanes};
    constexpr std::int64_t size = sizeof(T);
    bool neighbors = args.data.stride % size == 0;
    for (std::int64_t l = 1; l < lanes; ++l) neighbors = neighbors && at.x[l] - at.x[0] == l * size;
    if (neighbors) {
      panel.x = reinterpret_cast<const T*>(at.x[0] + first * args.data.stride);
      panel.stride = args.data.stride / size;
    } else {
      turn(at.x, args.data.stride, first, height, x_panel.data());
      // If the rows lie in a row, those of the next group, line by line.
      panel.ahead = (at.x[0] - reinterpret_cast<const char*>(x_panel.data())) / size + lanes * args.n;
    }
    if constexpr (weighted) turn(at.w, args.weights.stride, first, height, w_panel.data());
    return panel;
  }

  template <class N>
  static void turn(const char* const (&at)[lanes], std::int64_t stride, std::int64_t first, std::int64_t height,
                   N* to) {
    std::int64_t r = 0;
    if constexpr (sizeof(N) == sizeof(double)) {
      constexpr std::int64_t side = vector_width<N>;
      for (; stride == sizeof(N) && r + lanes <= height; r += lanes) {
        for (std::int64_t l = 0; l < lanes; l += side) {
          for (std::int64_t k = 0; k < lanes; k += side) {
            Vector<N> square[side];
            for (std::int64_t m = 0; m < side; ++m) {
              __builtin_memcpy(&square[m], at[l + m] + (first + r + k) * stride, sizeof square[m]);
            }
            transpose_square<N>(square);
            for (std::int64_t m = 0; m < side; ++m) {
              *reinterpret_cast<Vector<N>*>(to + (r + k + m) * lanes + l) = square[m];
            }
          }
        }
      }
    }
    for (; r < height; ++r) {
      for (std::int64_t l = 0; l < lanes; ++l) to[r * lanes + l] = number_at<N>(at[l] + (first + r) * stride);
    }
  }

  // Rows in the lanes.
  void read_rows(const Starts& at, std::int64_t first, std::int64_t count, Sums& into) const {
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t left = count - done, height = left < panel_height ? left : panel_height;
      const Panel<T> panel = turned(at, first + done, height);
      double sum[lanes] = {}, weight[lanes] = {};
      note(add_means<weighted>(panel, sum, weight));
      for (std::int64_t l = 0; l < lanes; ++l) sum[l] /= weight[l] > 0 ? weight[l] : 1.0;
      Sums found;
      add_about(panel, sum, found);
      if (done == 0) {
        into = found;
      } else {
        into.join(found);
      }
      done += height;
    }
  }
  static void add_about(const Panel<T>& panel, const double (&center)[lanes], Sums& found) {
    double sums[powers][width + 1][lanes];
    find_powers<width, powers, weighted, false>(panel, center, sums);
    __builtin_memcpy(&found.center, center, sizeof found.center);
    __builtin_memcpy(&found.of, sums, sizeof found.of);
  }

  // All blocks of rows that are a panel, about one center.
  void read_short_rows(const Starts& at, Sums* blocks) const {
    const Panel<T> whole = turned(at, 0, args.n);
    double center[lanes] = {}, weight[lanes] = {};
    note(add_means<weighted>(whole, center, weight));
    for (std::int64_t l = 0; l < lanes; ++l) center[l] /= weight[l] > 0 ? weight[l] : 1.0;
    std::int64_t first = 0;
    for (std::int64_t block = 0; block < args.n_blocks; ++block) {
      const auto count = static_cast<std::int64_t>(args.counts[block]);
      add_about({whole.x + first * whole.stride, whole.w + (weighted ? first * lanes : 0), count, whole.stride, lanes,
                 whole.ahead},
                center, blocks[block]);
      first += count;
    }
  }

  // Neighbors of one row in the lanes. Panels are read once as long as the mean of the first lines will do.
  OfRow read_row(const char* x, const char* w, std::int64_t first, std::int64_t count) const {
    const std::int64_t n_panels = ceil_div(count, panel_numbers);
    const std::int64_t of_panel = ceil_div(ceil_div(count, n_panels), lanes) * lanes;
    bool once = !weighted && of_panel >= 4 * first_numbers;
    OfRow total;
    total.clear();
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t left = count - done, n = left < of_panel ? left : of_panel, k = first + done;
      const Panel<T> panel = lined_up(x + k * args.data.stride, w + k * args.weights.stride, n);
      done += n;
      if (once) {
        if (done == n) {
          total.center = mean_of({panel.x, nullptr, first_numbers / lanes, lanes, lanes}, first_numbers);
        }
        const OfRow found = about(total.center, panel, n);
        once = near_mean(found);
        if (once) {
          total.add(found);
          continue;
        }
      }
      const OfRow found = about(mean_of(panel, n), panel, n);
      if (done == n) {
        total = found;
      } else {
        total.join(found);
      }
    }
    return total;
  }

  // Whether a center that was tried will do: about one that is off by half a standard deviation, powers of eighth order
  // are some 25 times as large, and so are their rounding errors.
  static bool near_mean(const OfRow& sums) {
    const auto& s = sums.of[0];
    return 4 * s[1] * s[1] <= s[0] * s[2];
  }

  // n numbers of a row in lines of `lanes`, a rest beyond the last.
  Panel<T> lined_up(const char* x, const char* w, std::int64_t n) const {
    Panel<T> panel{reinterpret_cast<const T*>(x), reinterpret_cast<const double*>(w), n / lanes, lanes, lanes, n};
    if (args.data.stride != sizeof(T)) {
      for (std::int64_t k = 0; k < n; ++k) x_panel[k] = number_at<T>(x + k * args.data.stride);
      panel.x = x_panel.data();
      panel.ahead = 0;
    }
    if constexpr (weighted) {
      if (args.weights.stride != sizeof(double)) {
        for (std::int64_t k = 0; k < n; ++k) w_panel[k] = number_at<double>(w + k * args.weights.stride);
        panel.w = w_panel.data();
      }
    }
    return panel;
  }
  double mean_of(const Panel<T>& panel, std::int64_t n) const {
    double sum[lanes] = {}, weight[lanes] = {};
    note(add_means<weighted>(panel, sum, weight));
    double total = 0, of_weights = 0;
    for (std::int64_t l = 0; l < lanes; ++l) {
      total += sum[l];
      of_weights += weight[l];
    }
    for (std::int64_t k = panel.height * lanes; k < n; ++k) {
      const double w = weighted ? panel.w[k] : 1.0;
      note(!(w >= 0 && w <= std::numeric_limits<double>::max()));
      total += w * static_cast<double>(panel.x[k]);
      of_weights += w;
    }
    return total / (of_weights > 0 ? of_weights : 1.0);
  }
  OfRow about(double mean, const Panel<T>& panel, std::int64_t n) const {
    double center[lanes], sums[powers][width + 1][lanes];
    for (std::int64_t l = 0; l < lanes; ++l) center[l] = mean;
    find_powers<width, powers, weighted, false>(panel, center, sums);
    // A last line, filled up with numbers that count nothing.
    const std::int64_t full = panel.height * lanes, rest = n - full;
    if (rest > 0) {
      double last_x[lanes], last_w[lanes] = {};
      for (std::int64_t l = 0; l < lanes; ++l) last_x[l] = l < rest ? static_cast<double>(panel.x[full + l]) : mean;
      for (std::int64_t l = 0; l < rest; ++l) last_w[l] = weighted ? panel.w[full + l] : 1.0;
      find_powers<width, powers, weighted, true>(Panel<double>{last_x, last_w, 1, lanes, lanes}, center, sums);
    }
    OfRow found;
    found.center = mean;
    for (int k = 0; k < powers; ++k) {
      for (int q = 0; q <= width; ++q) {
        const auto& s = sums[k][q];
        found.of[k][q] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
      }
    }
    if constexpr (!weighted) found.of[0][0] = static_cast<double>(n);
    return found;
  }
};

// Estimates from the sums of a group's blocks, and what goes out.
template <int width, int powers>
struct Estimator {
  using Sums = PowerSums<width, powers, Lanes>;

  const CumulantsArgs& args;
  const numerics::CumulantCoefficients of_all;
  const runtime::Buffer<numerics::LeftOut> without;  // each block

  explicit Estimator(const CumulantsArgs& given)
      : args(given),
        of_all(numerics::coefficients_of(numerics::sum_of(given.counts, given.n_blocks), given.unbiased)),
        without(given.n_blocks) {
    numerics::fill_left_out(given.counts, given.n_blocks, given.unbiased, without.data());
  }

  static void estimate(const Sums& sums, const numerics::CumulantCoefficients& coefficients, Lanes (&found)[width]) {
    using Terms = numerics::SeriesTerms<width, Lanes>;
    Lanes terms[powers > 1 ? Terms::count : 1];
    numerics::estimate_cumulants(sums, coefficients, Terms{terms}, found);
  }

  void operator()(std::int64_t group, Sums* blocks, bool same_center, Lanes (*left_out)[width]) const {
    const std::int64_t n_rows = args.n_rows - group * lanes < lanes ? args.n_rows - group * lanes : lanes;
    if (args.data.data != nullptr && args.sums != nullptr) put_sums(group, n_rows, blocks);
    if (args.values == nullptr) return;
    Sums all = blocks[0];
    for (std::int64_t b = 1; b < args.n_blocks; ++b) {
      if (same_center) {
        all.add(blocks[b]);
      } else {
        all.join(blocks[b]);
      }
    }
    Lanes found[width];
    estimate(all, of_all, found);
    for (std::int64_t r = 0; r < args.order; ++r) {
      for (std::int64_t l = 0; l < n_rows; ++l) {
        args.values[(group * lanes + l) * args.order + r] = found[r][l] + (r == 0 ? all.center[l] : 0.0);
      }
    }
    if (args.errors == nullptr && args.replicates == nullptr) return;
    for (std::int64_t b = 0; b < args.n_blocks; ++b) {
      if (!same_center) blocks[b].move_to(all.center);
      estimate(numerics::without_block(all, blocks[b], args.weighted), without[b].coefficients, left_out[b]);
      if (args.replicates != nullptr) {
        double* to = args.replicates + (b * args.n_rows + group * lanes) * args.order;
        for (std::int64_t l = 0; l < n_rows; ++l) {
          for (std::int64_t r = 0; r < args.order; ++r) {
            to[l * args.order + r] = left_out[b][r][l] + (r == 0 ? all.center[l] : 0.0);
          }
        }
      }
    }
    if (args.errors == nullptr) return;
    alignas(64) double error[width][lanes], factor[width][lanes];
    for (int r = 0; r < width; ++r) {  // in turn: all that is summed stays in registers
      numerics::Jackknife<1, Lanes> jackknife;
      for (std::int64_t b = 0; b < args.n_blocks; ++b) jackknife.center(without[b], left_out[b] + r, found + r);
      jackknife.scale();
      for (std::int64_t b = 0; b < args.n_blocks; ++b) jackknife.add(without[b], left_out[b] + r, found + r);
      const Lanes by = jackknife.factor(0);
      __builtin_memcpy(error[r], jackknife.square, sizeof error[r]);
      __builtin_memcpy(factor[r], &by, sizeof factor[r]);
      for (std::int64_t l = 0; l < lanes; ++l) error[r][l] = numerics::square_root(error[r][l]) * factor[r][l];
    }
    for (std::int64_t l = 0; l < n_rows; ++l) {
      for (std::int64_t r = 0; r < args.order; ++r) args.errors[(group * lanes + l) * args.order + r] = error[r][l];
    }
  }

  static constexpr std::int64_t size = sums_size(width, powers);
  double* of_block(std::int64_t row, std::int64_t block) const {
    return args.sums + (row * args.n_blocks + block) * size;
  }
  void put_sums(std::int64_t group, std::int64_t n_rows, const Sums* blocks) const {
    for (std::int64_t l = 0; l < n_rows; ++l) {
      for (std::int64_t b = 0; b < args.n_blocks; ++b) {
        double* to = of_block(group * lanes + l, b);
        *to++ = blocks[b].center[l];
        for (int k = 0; k < powers; ++k) {
          for (int q = 0; q <= width; ++q) *to++ = blocks[b].of[k][q][l];
        }
      }
    }
  }
  void take_sums(std::int64_t group, Sums* blocks) const {
    for (std::int64_t l = 0; l < lanes; ++l) {
      const std::int64_t row = group * lanes + l < args.n_rows ? group * lanes + l : group * lanes;
      for (std::int64_t b = 0; b < args.n_blocks; ++b) {
        const double* from = of_block(row, b);
        blocks[b].center.set(l, *from++);
        for (int k = 0; k < powers; ++k) {
          for (int q = 0; q <= width; ++q) blocks[b].of[k][q].set(l, *from++);
        }
      }
    }
  }
};

// What threads take at a time: segments of the blocks, as many of each as of the largest; those it lacks are empty.
struct Segment {
  std::int64_t first, count;
};
struct Segments {
  const std::int64_t of_block, n;
  const runtime::Buffer<Segment> at;

  explicit Segments(const CumulantsArgs& args) : of_block(of_largest(args)), n(args.n_blocks * of_block), at(n) {
    std::int64_t begin = 0;
    for (std::int64_t b = 0; b < args.n_blocks; ++b) {
      auto left = static_cast<std::int64_t>(args.counts[b]);
      for (std::int64_t k = 0; k < of_block; ++k) {
        const std::int64_t count = left < segment_numbers ? left : segment_numbers;
        at[b * of_block + k] = {begin, count};
        begin += count;
        left -= count;
      }
    }
  }
  static std::int64_t of_largest(const CumulantsArgs& args) {
    std::int64_t most = 1;
    for (std::int64_t b = 0; b < args.n_blocks; ++b) {
      const std::int64_t needed = ceil_div(static_cast<std::int64_t>(args.counts[b]), segment_numbers);
      most = needed > most ? needed : most;
    }
    return most;
  }
};

template <class T, int width, int powers, bool weighted>
void run(const CumulantsArgs& args) {
  using Read = Reader<T, width, powers, weighted>;
  using Sums = typename Read::Sums;
  if (args.n_rows == 0) return;
  const std::int64_t n_groups = ceil_div(args.n_rows, lanes);
  const Estimator<width, powers> estimator(args);
  const double nanoseconds = static_cast<double>(args.n_rows) *
                             (0.4 * static_cast<double>(args.n) * powers + 60.0 * static_cast<double>(args.n_blocks));

  if (args.data.data == nullptr) {
    return runtime::parallel_for(n_groups, nanoseconds, args.num_threads, [&](std::int64_t group) {
      runtime::check_interrupt();
      const runtime::Buffer<Sums> blocks(args.n_blocks);
      const runtime::Buffer<Lanes[width]> left_out(args.n_blocks);
      estimator.take_sums(group, blocks.data());
      estimator(group, blocks.data(), false, left_out.data());
    });
  }

  const Segments segments(args);
  const bool by_rows = Read::by_rows(args), turned = by_rows && args.n <= short_row;
  const std::int64_t together = Read::side_by_side(args) ? groups_together : 1;
  const std::int64_t n_sets = ceil_div(n_groups, together);

  // Sums of a set of groups, group by group: of one segment; of a row, whose number in the group is l; of all.
  const auto read_row = [&](const Read& reader, const Starts& at, std::int64_t l, std::int64_t segment, Sums& into) {
    runtime::check_interrupt();
    const auto found = reader.read_row(at.x[l], at.w[l], segments.at[segment].first, segments.at[segment].count);
    into.center.set(l, found.center);
    for (int k = 0; k < powers; ++k) {
      for (int q = 0; q <= width; ++q) into.of[k][q].set(l, found.of[k][q]);
    }
  };
  const auto read_segment = [&](const Read& reader, std::int64_t set, std::int64_t segment, Sums* into) {
    if (segments.at[segment].count == 0) return;
    for (std::int64_t g = set * together; g < n_groups && g < (set + 1) * together; ++g, into += segments.n) {
      runtime::check_interrupt();
      const Starts at = reader.starts(g);
      if (by_rows) {
        reader.read_rows(at, segments.at[segment].first, segments.at[segment].count, *into);
      } else {
        for (std::int64_t l = 0; l < lanes && g * lanes + l < args.n_rows; ++l) read_row(reader, at, l, segment, *into);
      }
    }
  };
  const auto read_set = [&](const Read& reader, std::int64_t set, Sums* into) {
    if (turned) {
      for (std::int64_t g = set * together; g < n_groups && g < (set + 1) * together; ++g, into += segments.n) {
        runtime::check_interrupt();
        reader.read_short_rows(reader.starts(g), into);
      }
    } else if (by_rows) {
      for (std::int64_t s = 0; s < segments.n; ++s) read_segment(reader, set, s, into + s);
    } else {  // memory in its order
      const Starts at = reader.starts(set);
      for (std::int64_t l = 0; l < lanes && set * lanes + l < args.n_rows; ++l) {
        for (std::int64_t s = 0; s < segments.n; ++s) {
          if (segments.at[s].count > 0) read_row(reader, at, l, s, into[s]);
        }
      }
    }
  };
  const auto finish = [&](std::int64_t set, Sums* sums, Lanes(*left_out)[width]) {
    for (std::int64_t g = set * together; g < n_groups && g < (set + 1) * together; ++g, sums += segments.n) {
      for (std::int64_t b = 0; b < args.n_blocks && segments.of_block > 1; ++b) {
        Sums of_block = sums[b * segments.of_block];
        for (std::int64_t s = b * segments.of_block + 1; s < (b + 1) * segments.of_block; ++s) {
          if (segments.at[s].count > 0) of_block.join(sums[s]);
        }
        sums[b] = of_block;
      }
      estimator(g, sums, turned, left_out);
    }
  };

  if (turned || n_sets >= many_sets) {
    const std::int64_t sets_of_task = runtime::items_per_task(n_sets, most_sets, nanoseconds, args.num_threads);
    return runtime::parallel_for(ceil_div(n_sets, sets_of_task), nanoseconds, args.num_threads, [&](std::int64_t task) {
      const Read reader(args);
      const runtime::Buffer<Sums> sums(together * segments.n);
      const runtime::Buffer<Lanes[width]> left_out(args.n_blocks);
      for (std::int64_t set = task * sets_of_task; set < n_sets && set < (task + 1) * sets_of_task; ++set) {
        read_set(reader, set, sums.data());
        finish(set, sums.data(), left_out.data());
      }
    });
  }
  // Few long rows: threads share the segments.
  const runtime::Buffer<Sums> sums(n_sets * together * segments.n);
  const std::int64_t n_items = segments.n * n_sets, numbers = ceil_div(args.n * args.n_rows, n_items);
  const std::int64_t of_task =
      runtime::items_per_task(n_items, ceil_div(few_numbers, numbers), nanoseconds, args.num_threads);
  runtime::parallel_for(ceil_div(n_items, of_task), nanoseconds, args.num_threads, [&](std::int64_t task) {
    const Read reader(args);
    for (std::int64_t item = task * of_task; item < n_items && item < (task + 1) * of_task; ++item) {
      const std::int64_t set = item % n_sets, segment = item / n_sets;
      read_segment(reader, set, segment, sums.data() + set * together * segments.n + segment);
    }
  });
  const runtime::Buffer<Lanes[width]> left_out(args.n_blocks);
  for (std::int64_t set = 0; set < n_sets; ++set) {
    finish(set, sums.data() + set * together * segments.n, left_out.data());
  }
}

template <class T, int width>
void run_weighted(const CumulantsArgs& args) {
  if (!args.weighted) return run<T, width, 1, false>(args);
  args.unbiased ? run<T, width, width, true>(args) : run<T, width, 1, true>(args);
}

template <class T>
void run_order(const CumulantsArgs& args) {
  args.order <= small_width ? run_weighted<T, small_width>(args) : run_weighted<T, large_width>(args);
}

}  // namespace

void cumulants(const CumulantsArgs& args) {
  *args.bad_weights = false;
  args.real == Real::float32 ? run_order<float>(args) : run_order<double>(args);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
