// Power sums and cumulants on the device.
//
// A lane reads every so-manieth number of a block, or of a segment of it, and keeps power sums about a center of its
// own, which is near the mean of what it has seen: that of its first numbers, and moved when it is no longer (Center
// below). Nothing is read twice, and lanes meet only at the end, where sums move to the mean of all and are added.
#include <algorithm>
#include <limits>
#include <vector>

#include "../cpp/kernels/cumulants.hpp"
#include "../cpp/numerics/elementary.hpp"
#include "layer.hpp"

namespace vfe::cuda {
namespace {

using kernels::sums_size;
using numerics::PowerSums;

constexpr std::int64_t lane_numbers = 256;                     // most that a lane adds up: of a segment
constexpr std::int64_t few_numbers = 8;                        // what a lane should have at least, if there are so many
constexpr std::int64_t least_side_by_side = 8;                 // rows in a row of memory, to have a lane each
constexpr std::int64_t sums_bytes = std::int64_t{32} << 20;    // of sums between kernels: they stay in the cache
constexpr std::int64_t piece_numbers = std::int64_t{1} << 20;  // packed at a time
constexpr int most_dims = 64;                                  // NumPy's

// Where rows begin, on the device.
struct Rows {
  const char *x, *w;  // w: null without weights
  int n_dims;
  std::int64_t shape[most_dims], x_strides[most_dims], w_strides[most_dims];
  std::int64_t x_stride, w_stride;

  VFE_DEVICE void find(std::int64_t row, const char*& x_row, const char*& w_row) const {
    x_row = x, w_row = w;
    for (int d = n_dims - 1; d >= 0; --d) {
      const std::int64_t k = d > 0 ? row % shape[d] : row;
      x_row += k * x_strides[d];
      if (w != nullptr) w_row += k * w_strides[d];
      if (d > 0) row /= shape[d];
    }
  }
};

// How the numbers of some rows are shared out: a part of a block, the segments of which are in turn, to `together`
// lanes.
struct Parts {
  std::int64_t first_row, n_rows, n_blocks, most, segment;  // most: segments of the largest block
  const std::int64_t* ends;                                 // of blocks, with 0 before
  int together;
  bool rows_first;  // neighboring lanes have neighboring rows; else parts of one row

  VFE_DEVICE std::int64_t count() const { return n_rows * n_blocks * most; }
};

// Sums over `together` lanes, in all of them.
template <int n>
VFE_DEVICE void add_lanes(const Thread& thread, int together, double (&x)[n]) {
  for (int mask = together / 2; mask > 0; mask /= 2) {
    VFE_UNROLL
    for (int k = 0; k < n; ++k) x[k] += thread.shuffle_xor(x[k], mask);
  }
}

template <class T, int width, int powers, bool weighted>
struct Read {
  static constexpr int n_threads = powers > 1 ? 128 : 256;
  static constexpr int panel = weighted ? 8 : 16;  // numbers of a lane that are on their way together
  static constexpr std::int64_t size = sums_size(width, powers);
  using Sums = PowerSums<width, powers, double>;
  Rows rows;
  Parts parts;
  double* out;  // (n_rows, n_blocks, most, size)
  int* bad_weights;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t at = thread.block() * n_threads + thread.index(), part = at / parts.together;
    const int lane = static_cast<int>(at % parts.together);
    const bool mine = part < parts.count();
    std::int64_t row = 0, of_row = 0;
    if (mine && parts.rows_first) {
      row = part % parts.n_rows, of_row = part / parts.n_rows;
    } else if (mine) {
      row = part / (parts.n_blocks * parts.most), of_row = part % (parts.n_blocks * parts.most);
    }
    const std::int64_t block = of_row / parts.most;
    const std::int64_t begin = parts.ends[block] + of_row % parts.most * parts.segment;
    const std::int64_t left = parts.ends[block + 1] - begin;
    const std::int64_t count = !mine ? 0 : left < parts.segment ? left : parts.segment;  // none of a shorter block
    const char *x, *w;
    rows.find(parts.first_row + row, x, w);
    Sums sums;
    sums.clear();
    if (lane < count) read(x + begin * rows.x_stride, weighted ? w + begin * rows.w_stride : w, count, lane, sums);
    if (parts.together > 1) meet(thread, lane, sums);
    if (lane > 0 || count <= 0) return;
    double* to = out + (row * parts.n_blocks * parts.most + of_row) * size;
    *to++ = sums.center;
    VFE_UNROLL
    for (int k = 0; k < powers; ++k) {
      VFE_UNROLL
      for (int q = 0; q <= width; ++q) *to++ = sums.of[k][q];
    }
  }

  VFE_DEVICE void read(const char* x, const char* w, std::int64_t count, int lane, Sums& sums) const {
    const std::int64_t step = parts.together;
    sums.center = static_cast<double>(*reinterpret_cast<const T*>(x + lane * rows.x_stride));
    for (std::int64_t k = lane; k < count; k += panel * step) {
      const char *x_at = x + k * rows.x_stride, *w_at = weighted ? w + k * rows.w_stride : w;
      if (k + (panel - 1) * step < count) {
        add<true>(x_at, w_at, panel, sums);
      } else {
        add<false>(x_at, w_at, static_cast<int>((count - k + step - 1) / step), sums);
      }
    }
  }

  // Center: what it costs to sum about c instead of the mean is a factor of some 2^q at most while c is within the
  // deviation of all numbers from their mean, or the panel weighs less than those before, for which c is so.
  template <bool full>
  VFE_DEVICE void add(const char* x_at, const char* w_at, int n, Sums& sums) const {
    const std::int64_t x_step = parts.together * rows.x_stride, w_step = parts.together * rows.w_stride;
    T x[panel];
    double w[weighted ? panel : 1];
    VFE_UNROLL
    for (int k = 0; k < panel; ++k) {
      x[k] = T{};
      if constexpr (weighted) w[k] = 0;
      if (!full && k >= n) continue;
      x[k] = *reinterpret_cast<const T*>(x_at + k * x_step);
      if constexpr (weighted) {
        w[k] = *reinterpret_cast<const double*>(w_at + k * w_step);
        if (!(w[k] >= 0 && w[k] <= std::numeric_limits<double>::max())) *bad_weights = 1;
      }
    }
    double weight = n;
    if constexpr (weighted) {
      weight = 0;
      VFE_UNROLL
      for (int k = 0; k < panel; ++k) weight += w[k];
    }
    double (&first)[width + 1] = sums.of[0];
    if (weight > first[0]) {
      double total = 0;
      VFE_UNROLL
      for (int k = 0; k < panel; ++k) total += weighted ? w[k] * static_cast<double>(x[k]) : static_cast<double>(x[k]);
      const double mean = total / weight;
      if (first[0] > 0) {
        sums.move_to(mean);
      } else {
        sums.center = mean;
      }
    }
    VFE_UNROLL
    for (int k = 0; k < panel; ++k) {
      const double d = full || k < n ? static_cast<double>(x[k]) - sums.center : 0.0;
      double power[width + 1];
      power[1] = d;
      VFE_UNROLL
      for (int q = 2; q <= (weighted ? width : width / 2); ++q) power[q] = power[q / 2] * power[q - q / 2];
      if constexpr (weighted) {
        double times = w[k];
        VFE_UNROLL
        for (int p = 0; p < powers; ++p, times *= w[k]) {
          sums.of[p][0] += times;
          VFE_UNROLL
          for (int q = 1; q <= width; ++q) sums.of[p][q] = multiply_add(times, power[q], sums.of[p][q]);
        }
      } else {
        first[1] += d;
        VFE_UNROLL
        for (int q = 2; q <= width; ++q) first[q] = multiply_add(power[q / 2], power[q - q / 2], first[q]);
      }
    }
    if constexpr (!weighted) first[0] += weight;
    if (8.0 * (first[1] * first[1]) > first[0] * first[2]) sums.move_to(sums.center + sums.offset());
  }

  // Of all lanes of a part, about the mean.
  VFE_DEVICE void meet(const Thread& thread, int lane, Sums& sums) const {
    const double about = thread.shuffle(sums.center, thread.lane() - lane);
    double all[2] = {sums.of[0][0], sums.of[0][1] + sums.of[0][0] * (sums.center - about)};
    add_lanes(thread, parts.together, all);
    sums.move_to(about + all[1] / (all[0] > 0 ? all[0] : 1.0));
    VFE_UNROLL
    for (int p = 0; p < powers; ++p) add_lanes(thread, parts.together, sums.of[p]);
  }
};

// Sums of n parts that follow each other, about the mean of all, in each of `together` lanes.
template <int width, int powers>
VFE_DEVICE PowerSums<width, powers, double> join_all(const Thread& thread, const double* parts, std::int64_t n,
                                                     int lane, int together) {
  constexpr std::int64_t size = sums_size(width, powers);
  double all[2] = {};
  for (std::int64_t k = lane; k < n; k += together) {
    const double* part = parts + k * size;
    all[0] += part[1];
    all[1] += part[2] + part[1] * (part[0] - parts[0]);
  }
  add_lanes(thread, together, all);
  PowerSums<width, powers, double> joined;
  joined.clear();
  joined.center = parts[0] + all[1] / (all[0] > 0 ? all[0] : 1.0);
  VFE_UNROLL
  for (int p = 0; p < powers; ++p) {
    for (std::int64_t k = lane; k < n; k += together) {
      const double* part = parts + k * size;
      double of[width + 1];
      VFE_UNROLL
      for (int q = 0; q <= width; ++q) of[q] = part[1 + p * (width + 1) + q];
      numerics::shift_center<width>(of, joined.center - part[0]);
      VFE_UNROLL
      for (int q = 0; q <= width; ++q) joined.of[p][q] += of[q];
    }
    add_lanes(thread, together, joined.of[p]);
  }
  return joined;
}

// Segments to blocks: a warp for each.
template <int width, int powers>
struct Join {
  static constexpr int n_threads = 128;
  static constexpr std::int64_t size = sums_size(width, powers);
  Parts of;
  const double* parts;
  double* out;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * (n_threads / warp_size) + thread.warp();
    if (k >= of.n_rows * of.n_blocks) return;
    const std::int64_t block = k % of.n_blocks, count = of.ends[block + 1] - of.ends[block];
    const auto joined = join_all<width, powers>(thread, parts + k * of.most * size,
                                                (count + of.segment - 1) / of.segment, thread.lane(), warp_size);
    if (thread.lane() > 0) return;
    double* to = out + k * size;
    *to++ = joined.center;
    VFE_UNROLL
    for (int p = 0; p < powers; ++p) {
      VFE_UNROLL
      for (int q = 0; q <= width; ++q) *to++ = joined.of[p][q];
    }
  }
};

// Estimates and errors: `together` lanes a row, blocks in turns.
template <int width, int powers>
struct Estimate {
  static constexpr int n_threads = powers > 1 ? warp_size : 128;
  static constexpr std::int64_t size = sums_size(width, powers);
  using Sums = PowerSums<width, powers, double>;
  using Terms = numerics::SeriesTerms<width, double, true, n_threads>;
  struct Estimates {
    double all[width], rest[width];
    numerics::Jackknife<width, double> jackknife;
  };
  struct Shared {
    double terms[powers > 1 ? Terms::count * n_threads : 1];
    Estimates estimates[powers > 1 ? n_threads : 1];  // where registers do not suffice for both
  };
  const double* sums;  // (n_rows, n_blocks, size)
  std::int64_t n_rows, n_blocks, order, all_rows;
  int together;
  bool weighted;
  numerics::CumulantCoefficients of_all;
  const numerics::LeftOut* left_out;
  double *values, *errors, *replicates;  // from the first row on

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t at = thread.block() * n_threads + thread.index(), given = at / together;
    const int lane = static_cast<int>(at % together);
    const bool mine = given < n_rows;
    const std::int64_t row = mine ? given : n_rows - 1;
    const Terms terms{thread.shared<Shared>().terms + (powers > 1 ? thread.index() : 0)};
    const double* blocks = sums + row * n_blocks * size;
    const Sums all = join_all<width, powers>(thread, blocks, n_blocks, lane, together);
    Estimates own;
    Estimates& estimates = powers > 1 ? thread.shared<Shared>().estimates[thread.index()] : own;
    auto& [found, rest, jackknife] = estimates;
    numerics::estimate_cumulants(all, of_all, terms, found);
    if (mine && lane == 0) put(values + row * order, found, all.center);
    if (errors == nullptr && replicates == nullptr) return;

    jackknife = {};
    const auto estimate_without = [&](std::int64_t b) {
      Sums block;
      const double* from = blocks + b * size;
      block.center = *from++;
      for (int p = 0; p < powers; ++p) {
        VFE_UNROLL
        for (int q = 0; q <= width; ++q) block.of[p][q] = *from++;
      }
      block.move_to(all.center);
      numerics::estimate_cumulants(numerics::without_block(all, block, weighted), left_out[b].coefficients, terms,
                                   rest);
    };
    for (std::int64_t b = lane; b < n_blocks; b += together) {
      estimate_without(b);
      if (mine && replicates != nullptr) put(replicates + (b * all_rows + row) * order, rest, all.center);
      jackknife.center(left_out[b], rest, found);
    }
    if (errors == nullptr) return;
    add_lanes(thread, together, jackknife.mean);
    add_lanes(thread, together, jackknife.size);
    jackknife.scale();
    for (std::int64_t b = lane; b < n_blocks; b += together) {
      if (n_blocks > together) estimate_without(b);  // else it is the one at hand
      jackknife.add(left_out[b], rest, found);
    }
    add_lanes(thread, together, jackknife.square);
    add_lanes(thread, together, jackknife.fourth);
    VFE_UNROLL
    for (int r = 0; r < width; ++r) {
      rest[r] = numerics::square_root(jackknife.square[r]) * jackknife.factor(r);
    }
    if (mine && lane == 0) put(errors + row * order, rest, 0.0);
  }

  VFE_DEVICE void put(double* to, const double (&found)[width], double center) const {
    VFE_UNROLL
    for (int r = 0; r < width; ++r) {
      if (r < order) to[r] = found[r] + (r == 0 ? center : 0.0);
    }
  }
};

// The caller's numbers: in place on the device; of host memory the extent they lie in, if no more than half of it is
// others', else the numbers alone, packed.
template <class T>
class Numbers {
 public:
  Numbers(const kernels::CumulantsArgs& args, const kernels::Strided& of)
      : strides(of.strides, of.strides + args.n_dims), stride(of.stride) {
    const std::int64_t count = args.n_rows * args.n;
    if (of.data == nullptr || count == 0) return;
    constexpr std::int64_t bytes = sizeof(T);
    std::int64_t low = 0, high = 0;
    bool aligned = true;
    const auto span = [&](std::int64_t length, std::int64_t step) {
      (step < 0 ? low : high) += (length - 1) * step;
      aligned = aligned && step % bytes == 0;
    };
    for (std::int64_t d = 0; d < args.n_dims; ++d) span(args.shape[d], strides[static_cast<std::size_t>(d)]);
    span(args.n, stride);
    const auto* data = static_cast<const char*>(of.data);
    if (on_device(data) || (aligned && high - low + bytes <= 2 * count * bytes)) {
      extent_ = Input<char>(data + low, high - low + bytes);
      at = extent_.data() - low;
    } else {
      pack(args, data, count);
    }
  }

  std::vector<std::int64_t> strides;
  std::int64_t stride;
  const char* at = nullptr;

 private:
  void pack(const kernels::CumulantsArgs& args, const char* data, std::int64_t count) {
    packed_ = DeviceBuffer<T>(count);
    std::vector<T> piece;
    std::int64_t done = 0;
    const auto move = [&] {
      copy(packed_.data() + done, piece.data(), piece.size() * sizeof(T));
      wait();
      done += static_cast<std::int64_t>(piece.size());
      piece.clear();
    };
    for (std::int64_t row = 0; row < args.n_rows; ++row) {
      const char* from = data;
      for (std::int64_t d = args.n_dims - 1, k = row; d >= 0; k /= args.shape[d], --d) {
        from += k % args.shape[d] * strides[static_cast<std::size_t>(d)];
      }
      for (std::int64_t k = 0; k < args.n; ++k, from += stride) {
        T number;
        __builtin_memcpy(&number, from, sizeof number);
        piece.push_back(number);
        if (static_cast<std::int64_t>(piece.size()) == piece_numbers) move();
      }
    }
    move();
    at = reinterpret_cast<const char*>(packed_.data());
    stride = sizeof(T);
    std::int64_t next = args.n * stride;
    for (std::int64_t d = args.n_dims - 1; d >= 0; next *= args.shape[d], --d) {
      strides[static_cast<std::size_t>(d)] = next;
    }
  }

  Input<char> extent_{nullptr, 0};
  DeviceBuffer<T> packed_;
};

// Dimensions that lie behind each other are one.
template <class T>
Rows rows_of(const kernels::CumulantsArgs& args, const Numbers<T>& x, const Numbers<double>& w) {
  Rows rows{x.at, w.at, 0, {}, {}, {}, x.stride, w.stride};
  for (std::int64_t d = 0; d < args.n_dims; ++d) {
    const std::int64_t length = args.shape[d], x_stride = x.strides[static_cast<std::size_t>(d)];
    const std::int64_t w_stride = w.at != nullptr ? w.strides[static_cast<std::size_t>(d)] : 0;
    const int last = rows.n_dims - 1;
    if (last >= 0 && rows.x_strides[last] == length * x_stride && rows.w_strides[last] == length * w_stride) {
      rows.shape[last] *= length, rows.x_strides[last] = x_stride, rows.w_strides[last] = w_stride;
    } else {
      if (rows.n_dims == most_dims) throw ArgumentError("x: expected at most 64 axes");
      rows.shape[last + 1] = length, rows.x_strides[last + 1] = x_stride, rows.w_strides[last + 1] = w_stride;
      ++rows.n_dims;
    }
  }
  return rows;
}

template <class T, int width, int powers, bool weighted>
void run(const kernels::CumulantsArgs& args) {
  constexpr std::int64_t size = sums_size(width, powers);
  const bool from_data = args.data.data != nullptr;
  const Numbers<T> x(args, args.data);
  const Numbers<double> w(args, args.weights);
  const Input<double> given(from_data ? nullptr : args.sums, args.n_rows * args.n_blocks * size);
  const Output<double> sums(from_data ? args.sums : nullptr, args.n_rows * args.n_blocks * size);
  const Output<double> values(args.values, args.n_rows * args.order);
  const Output<double> errors(args.errors, args.n_rows * args.order);
  const Output<double> replicates(args.replicates, args.n_blocks * args.n_rows * args.order);

  std::vector<numerics::LeftOut> of_blocks(static_cast<std::size_t>(args.n_blocks));
  numerics::fill_left_out(args.counts, args.n_blocks, args.unbiased, of_blocks.data());
  const Input<numerics::LeftOut> left_out(of_blocks.data(), args.n_blocks);
  std::vector<std::int64_t> ends_of_blocks(1, 0);
  std::int64_t largest = 0;
  for (std::int64_t b = 0; b < args.n_blocks; ++b) {
    const auto count = static_cast<std::int64_t>(args.counts[b]);
    ends_of_blocks.push_back(ends_of_blocks.back() + count);
    largest = std::max(largest, count);
  }
  const Input<std::int64_t> ends(ends_of_blocks.data(), args.n_blocks + 1);
  int bad_weights = 0;
  const DeviceBuffer<int> bad(1);
  copy(bad.data(), &bad_weights, sizeof bad_weights);
  wait();

  // Depends on n and on the strides alone, not on how many rows there are or go at a time: so do the results.
  const Rows rows = rows_of(args, x, w);
  Parts parts{0, 0, args.n_blocks, 1, 0, ends.data(), 1, false};
  parts.rows_first = from_data && args.n_dims > 0 && x.stride != sizeof(T) && x.strides.back() == sizeof(T) &&
                     args.shape[args.n_dims - 1] >= least_side_by_side;
  while (!parts.rows_first && parts.together < warp_size && parts.together * few_numbers < largest) parts.together *= 2;
  parts.segment = parts.together * lane_numbers;
  parts.most = from_data ? ceil_div(largest, parts.segment) : 1;
  int together = 1;
  while (together < warp_size && together < args.n_blocks) together *= 2;

  const std::int64_t row_bytes = args.n_blocks * parts.most * size * static_cast<std::int64_t>(sizeof(double));
  const std::int64_t rows_at_once =
      std::clamp(sums_bytes / row_bytes, std::int64_t{1}, std::max<std::int64_t>(args.n_rows, 1));
  const bool own_sums = from_data && sums.data() == nullptr;
  const DeviceBuffer<double> segments(parts.most > 1 ? rows_at_once * args.n_blocks * parts.most * size : 0);
  const DeviceBuffer<double> blocks(own_sums ? rows_at_once * args.n_blocks * size : 0);
  constexpr std::int64_t times_before_looking = 64;
  for (std::int64_t first = 0, time = 1; first < args.n_rows; first += rows_at_once, ++time) {
    parts.first_row = first;
    parts.n_rows = std::min(rows_at_once, args.n_rows - first);
    const double* found = given.data() + (from_data ? 0 : first * args.n_blocks * size);
    if (from_data) {
      double* to = own_sums ? blocks.data() : sums.data() + first * args.n_blocks * size;
      using Reader = Read<T, width, powers, weighted>;
      const std::int64_t n_lanes = parts.n_rows * args.n_blocks * parts.most * parts.together;
      launch(Reader{rows, parts, parts.most > 1 ? segments.data() : to, bad.data()},
             ceil_div(n_lanes, Reader::n_threads));
      if (parts.most > 1) {
        using Joiner = Join<width, powers>;
        launch(Joiner{parts, segments.data(), to},
               ceil_div(parts.n_rows * args.n_blocks, Joiner::n_threads / warp_size));
      }
      found = to;
    }
    if (args.values != nullptr) {
      using Estimator = Estimate<width, powers>;
      const auto from = [&](const Output<double>& of) {
        return of.data() != nullptr ? of.data() + first * args.order : nullptr;
      };
      launch(Estimator{found, parts.n_rows, args.n_blocks, args.order, args.n_rows, together, args.weighted,
                       numerics::coefficients_of(numerics::sum_of(args.counts, args.n_blocks), args.unbiased),
                       left_out.data(), from(values), from(errors), from(replicates)},
             ceil_div(parts.n_rows * together, Estimator::n_threads));
    }
    if (time % times_before_looking == 0) wait();
  }
  sums.finish();
  values.finish();
  errors.finish();
  replicates.finish();
  if (weighted) {
    copy(&bad_weights, bad.data(), sizeof bad_weights);
    wait();
    *args.bad_weights = bad_weights != 0;
  }
}

template <class T, int width>
void run_weighted(const kernels::CumulantsArgs& args) {
  if (!args.weighted) return run<T, width, 1, false>(args);
  args.unbiased ? run<T, width, width, true>(args) : run<T, width, 1, true>(args);
}

template <class T>
void run_order(const kernels::CumulantsArgs& args) {
  args.order <= kernels::small_width ? run_weighted<T, kernels::small_width>(args)
                                     : run_weighted<T, kernels::large_width>(args);
}

}  // namespace

void cumulants(const kernels::CumulantsArgs& args) {
  *args.bad_weights = false;
  args.real == kernels::Real::float32 ? run_order<float>(args) : run_order<double>(args);
}

}  // namespace vfe::cuda
