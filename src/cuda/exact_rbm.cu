// Sums over the states of an RBM on the device. A block takes tiles of 64 high and 64 low states, a thread 8 by 4 of
// them, and goes through the units in steps of 32, whose factors the block shares. A tile's sum is a multiple of 2^k
// (or e^x) of its largest term; a block adds up the tiles of its part of a range one after the other, and the host the
// parts in their order, so that nothing depends on which block was first.
#include <runtime/launch.hpp>
#include <vector>

#include "../cpp/kernels/exact_rbm.hpp"
#include "../cpp/kernels/product_form.hpp"

namespace vfe::cuda {
namespace {

using kernels::Problem;
using kernels::ProductForm;
using kernels::ScaledSum;

constexpr int tile_bits = 6, tile = 1 << tile_bits;  // high states, and low ones
constexpr int unit_step = 32;                        // units whose factors are shared at a time
constexpr std::int64_t units_per_exponent = 512;     // a product of 512 factors <= 2 fits a double

// What is summed, as the device sees it. In product form a state and unit contribute the factor A + C, with
// exponentials 1 + e^(A + C), where A and C are fields.
template <class T>
struct Tables {
  std::int64_t m;
  int n_high_bits, inner_bits;       // those of a tile's high states, at most tile_bits
  const T* low;                      // (m, tile): C
  const double *base, *step;         // (m,), (n_high_bits, m): A of the high state 0, what a bit adds to it
  const double* low_own;             // (tile,): mantissa of the weight of its own, or its logarithm
  const std::int64_t* low_exponent;  // (tile,)
  const double* high_bias;           // (n_high_bits,)
  double gain;
  const std::int64_t* chunk_end;  // (n_chunks,): the exponent is taken out after each of these units
  std::int64_t n_chunks;
};

// A sum of terms that are multiples of 2^reference or e^reference.
template <bool products>
struct Scaled {
  using Reference = std::conditional_t<products, std::int64_t, double>;
  Reference reference;
  double sum = 0;

  VFE_HD static Reference nothing() {
    if constexpr (products) {
      return ScaledSum().reference;
    } else {
      return -std::numeric_limits<double>::infinity();
    }
  }
  VFE_HD static double power(Reference x) {  // for x <= 0
    if constexpr (products) {
      return ScaledSum::power(x);
    } else {
      return numerics::exp(x);
    }
  }
  VFE_HD void add(const Scaled& other) {
    if (other.reference > reference) {
      sum = sum == 0.0 ? 0.0 : sum * power(reference - other.reference);
      reference = other.reference;
    }
    sum += other.sum == 0.0 ? 0.0 : other.sum * power(other.reference - reference);
  }
};


template <class T, bool products>
struct SumWeights {
  static constexpr int n_threads = 128, rows = 8, columns = 4, width = 16 / sizeof(T);
  static constexpr int n_warps = n_threads / warp_size;
  using Sum = Scaled<products>;
  using Reference = typename Sum::Reference;
  struct alignas(16) Few {
    T of[width];
  };
  struct Shared {
    T high[unit_step][tile + width];  // A; a little more, for the sake of the banks
    T low[unit_step][tile];           // C
    double own[tile];                 // of the high states
    std::int64_t own_exponent[tile];
    Reference top[n_warps];
    double sum[n_warps];
  };
  Tables<T> tables;
  std::int64_t first_part, tiles_per_part;
  Sum* out;  // a part each

  VFE_DEVICE void operator()(const Thread& thread) const {
    auto& shared = thread.shared<Shared>();
    Sum total{Sum::nothing()};
    for (std::int64_t k = 0; k < tiles_per_part; ++k) {
      const std::int64_t of_tile = (first_part + thread.block()) * tiles_per_part + k;
      const Sum sum = sum_tile(thread, shared, of_tile << tables.inner_bits);
      total.add(sum);
    }
    if (thread.index() == 0) out[thread.block()] = total;
  }

  // The same for all threads.
  VFE_DEVICE Sum sum_tile(const Thread& thread, Shared& shared, std::int64_t first_high) const {
    set_own(thread, shared, first_high);
    T product[rows][columns];
    double positive[rows][columns];  // of exponentials: the fields above 0
    std::int32_t powers[rows][columns];
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      VFE_UNROLL
      for (int c = 0; c < columns; ++c) product[r][c] = 1, positive[r][c] = 0, powers[r][c] = 0;
    }
    std::int64_t chunk = 0, end = tables.chunk_end[0];
    for (std::int64_t begin = 0; begin < tables.m; begin += unit_step) {
      const int count = tables.m - begin < unit_step ? static_cast<int>(tables.m - begin) : unit_step;
      thread.barrier();
      set_factors(thread, shared, begin, count, first_high);
      thread.barrier();
      for (int u = 0; u < count; ++u) {
        T a[rows], c[columns];
        load(&shared.high[u][thread.index() / 16 * rows], 1, a);
        load(&shared.low[u][thread.index() % 16 * width], 16, c);
        VFE_UNROLL
        for (int r = 0; r < rows; ++r) {
          VFE_UNROLL
          for (int k = 0; k < columns; ++k) {
            if constexpr (products) {
              product[r][k] *= a[r] + c[k];
            } else {
              const double x = a[r] + c[k];
              product[r][k] *= 1.0 + numerics::exp_negative(-numerics::magnitude(x));
              positive[r][k] += x > 0.0 ? x : 0.0;
            }
          }
        }
        if (begin + u + 1 != end) continue;
        ++chunk;
        end = chunk < tables.n_chunks ? tables.chunk_end[chunk] : 0;
        VFE_UNROLL
        for (int r = 0; r < rows; ++r) {
          VFE_UNROLL
          for (int k = 0; k < columns; ++k) powers[r][k] += take_out_exponent(product[r][k]);
        }
      }
    }

    Reference top = Sum::nothing();
    double own_low[columns];
    std::int64_t low_exponent[columns];
    VFE_UNROLL
    for (int k = 0; k < columns; ++k) {
      own_low[k] = tables.low_own[column(thread, k)];
      low_exponent[k] = products ? tables.low_exponent[column(thread, k)] : 0;
    }
    const auto reference = [&](int r, int k) -> Reference {
      const int row = thread.index() / 16 * rows + r;
      if constexpr (products) {
        return powers[r][k] + (shared.own_exponent[row] + low_exponent[k]);
      } else {
        const double logs = numerics::log(product[r][k]) + kernels::ln2 * static_cast<double>(powers[r][k]);
        return (shared.own[row] + own_low[k]) + (logs + positive[r][k]);
      }
    };
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      VFE_UNROLL
      for (int k = 0; k < columns; ++k) {
        const Reference found = reference(r, k);
        if constexpr (!products) positive[r][k] = found;
        top = found > top ? found : top;
      }
    }
    top = largest(thread, shared, top);
    double sum = 0;
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      const double own = shared.own[thread.index() / 16 * rows + r];
      VFE_UNROLL
      for (int k = 0; k < columns; ++k) {
        if constexpr (products) {
          sum += static_cast<double>(product[r][k]) * (own * own_low[k]) * Sum::power(reference(r, k) - top);
        } else {
          sum += Sum::power(positive[r][k] - top);
        }
      }
    }
    return {top, sum_of(thread, shared, sum)};
  }

  VFE_DEVICE static int column(const Thread& thread, int k) {
    return k / width * (16 * width) + thread.index() % 16 * width + k % width;
  }
  // Numbers of 16 bytes each, `step` of those apart.
  template <int count>
  VFE_DEVICE static void load(const T* from, int step, T (&to)[count]) {
    VFE_UNROLL
    for (int k = 0; k < count / width; ++k) {
      const Few few = *reinterpret_cast<const Few*>(from + k * step * width);
      VFE_UNROLL
      for (int l = 0; l < width; ++l) to[k * width + l] = few.of[l];
    }
  }

  // Of a positive normal number.
  VFE_DEVICE static std::int32_t take_out_exponent(T& x) {
    using Bits = typename numerics::Format<T>::Bits;
    constexpr int mantissa_bits = numerics::Format<T>::mantissa_bits;
    constexpr auto bias = numerics::Format<T>::bias;
    const auto bits = std::bit_cast<Bits>(x);
    x = std::bit_cast<T>((bits & ((Bits{1} << mantissa_bits) - 1)) | (static_cast<Bits>(bias) << mantissa_bits));
    return static_cast<std::int32_t>(bits >> mantissa_bits) - static_cast<std::int32_t>(bias);
  }

  // The weights of the high states by themselves. Where a range has fewer than a tile holds, the rest weighs nothing.
  VFE_DEVICE void set_own(const Thread& thread, Shared& shared, std::int64_t first_high) const {
    const int h = thread.index();
    if (h >= tile) return;
    double exponent = tables.gain;
    for (int k = 0; k < tables.n_high_bits; ++k) {
      if (((first_high | h) >> k & 1) != 0) exponent += tables.high_bias[k];
    }
    const bool here = h >> tables.inner_bits == 0;
    if constexpr (products) {
      const kernels::ScaledExp own = kernels::scaled_exp(exponent);
      shared.own[h] = here ? own.mantissa : 0.0;
      shared.own_exponent[h] = here ? own.exponent : Sum::nothing();
    } else {
      shared.own[h] = here ? exponent : Sum::nothing();
    }
  }

  VFE_DEVICE static double join(double a, double of_bit) { return products ? a * of_bit : a + of_bit; }

  // Those of a few units, for the high and the low states of the tile. A thread makes A of a unit for 16 high states:
  // they share the bits above.
  VFE_DEVICE void set_factors(const Thread& thread, Shared& shared, std::int64_t begin, int count,
                              std::int64_t first_high) const {
    constexpr int shared_bits = 4, group = 1 << shared_bits;
    static_assert(tile / group * unit_step == n_threads);
    const int u = thread.index() % unit_step, first = thread.index() / unit_step * group;
    if (u < count) {
      const double* step = tables.step + begin + u;
      double a[group];
      a[0] = tables.base[begin + u];
      for (int k = tables.n_high_bits - 1; k >= tables.inner_bits; --k) {
        if ((first_high >> k & 1) != 0) a[0] = join(a[0], step[k * tables.m]);
      }
      for (int k = tables.inner_bits - 1; k >= shared_bits; --k) {
        if ((first >> k & 1) != 0) a[0] = join(a[0], step[k * tables.m]);
      }
      VFE_UNROLL
      for (int k = 0; k < shared_bits; ++k) {
        const double of_bit = k < tables.inner_bits ? step[k * tables.m] : (products ? 1.0 : 0.0);
        VFE_UNROLL
        for (int l = 0; l < 1 << k; ++l) a[(1 << k) + l] = join(a[l], of_bit);
      }
      VFE_UNROLL
      for (int l = 0; l < group; ++l) shared.high[u][first + l] = static_cast<T>(a[l]);
    }
    const auto* from = reinterpret_cast<const Few*>(tables.low + begin * tile);
    auto* to = reinterpret_cast<Few*>(&shared.low[0][0]);
    for (int k = thread.index(); k < count * (tile / width); k += n_threads) to[k] = from[k];
  }

  VFE_DEVICE static Reference largest(const Thread& thread, Shared& shared, Reference top) {
    VFE_UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) {
      const Reference other = thread.shuffle_xor(top, mask);
      top = other > top ? other : top;
    }
    if (thread.lane() == 0) shared.top[thread.warp()] = top;
    thread.barrier();
    VFE_UNROLL
    for (int w = 0; w < n_warps; ++w) top = shared.top[w] > top ? shared.top[w] : top;
    return top;
  }
  // Pairs of lanes, pairs of those, ..., then one warp after the other.
  VFE_DEVICE static double sum_of(const Thread& thread, Shared& shared, double sum) {
    VFE_UNROLL
    for (int mask = 1; mask < warp_size; mask *= 2) sum += thread.shuffle_xor(sum, mask);
    if (thread.lane() == 0) shared.sum[thread.warp()] = sum;
    thread.barrier();
    sum = 0;
    VFE_UNROLL
    for (int w = 0; w < n_warps; ++w) sum += shared.sum[w];
    return sum;
  }
};

// Numbers that only the device reads.
template <class T>
DeviceBuffer<T> on_device(const T* values, std::int64_t count) {
  DeviceBuffer<T> buffer(count);
  copy(buffer.data(), values, static_cast<std::size_t>(count) * sizeof(T));
  return buffer;
}
template <class T>
DeviceBuffer<T> on_device(const std::vector<T>& values) {
  return on_device(values.data(), static_cast<std::int64_t>(values.size()));
}

std::int64_t power_of_two_up_to(std::int64_t most) {
  std::int64_t power = 1;
  while (2 * power <= most) power *= 2;
  return power;
}

// The tables of a product form, or of fields.
template <class T>
struct DeviceTables {
  std::int64_t n, low_bits;
  DeviceBuffer<T> low;
  DeviceBuffer<double> base, step, low_own, high_bias;
  DeviceBuffer<std::int64_t> low_exponent, chunk_end;
  Tables<T> view;

  explicit DeviceTables(const ProductForm<T>& form) : n(form.n), low_bits(form.low_bits) {
    std::vector<T> of_low(static_cast<std::size_t>(form.m * tile));
    std::vector<double> own(tile);
    std::vector<std::int64_t> exponent(tile, ScaledSum().reference);
    for (std::int64_t l = 0; l < tile; ++l) {
      // Where there are fewer low states than a tile holds, the rest weighs nothing.
      const std::int64_t like = l % form.n_low, k = l;
      for (std::int64_t j = 0; j < form.m; ++j) at(of_low, j * tile + l) = form.low[form.low_at(like, j)];
      if (l != like) continue;
      at(own, k) = form.low_mantissa[l];
      at(exponent, k) = form.low_exponent[l];
    }
    finish(form.m, of_low, form.base.data(), form.step.data(), own, form.bias, form.gain, form.chunk_end.data(),
           form.n_chunks);
    low_exponent = on_device(exponent);
    view.low_exponent = low_exponent.data();
  }

  explicit DeviceTables(const Problem& problem)
      : n(problem.n), low_bits(problem.n < tile_bits ? problem.n : tile_bits) {
    const std::int64_t m = problem.padded;
    std::vector<double> of_low(static_cast<std::size_t>(m * tile));
    std::vector<double> own(tile, -std::numeric_limits<double>::infinity());
    own[0] = 0;
    for (std::int64_t i = 0; i < low_bits; ++i) {
      for (std::int64_t l = 0, known = std::int64_t{1} << i; l < known; ++l) {
        at(own, known + l) = at(own, l) + problem.bias[i];
        for (std::int64_t j = 0; j < m; ++j) {
          at(of_low, j * tile + known + l) = at(of_low, j * tile + l) + problem.weights[i * m + j];
        }
      }
    }
    std::vector<std::int64_t> ends;
    for (std::int64_t j = units_per_exponent; j < m; j += units_per_exponent) ends.push_back(j);
    ends.push_back(m);
    finish(m, of_low, problem.other_bias.data(), problem.weights.data(), own, problem.bias.data(), 0.0, ends.data(),
           static_cast<std::int64_t>(ends.size()));
  }

 private:
  template <class U>
  static U& at(std::vector<U>& values, std::int64_t k) {
    return values[static_cast<std::size_t>(k)];
  }
  void finish(std::int64_t m, const std::vector<T>& of_low, const double* of_base, const double* of_step,
              const std::vector<double>& own, const double* bias, double gain, const std::int64_t* ends,
              std::int64_t n_chunks) {
    low = on_device(of_low);
    base = on_device(of_base, m);
    const std::int64_t n_high_bits = n - low_bits;
    step = on_device(of_step + low_bits * m, n_high_bits * m);
    low_own = on_device(own);
    high_bias = on_device(bias + low_bits, n_high_bits);
    chunk_end = on_device(ends, n_chunks);
    wait();  // what was copied from is not kept
    view = {m,
            static_cast<int>(n_high_bits),
            0,
            low.data(),
            base.data(),
            step.data(),
            low_own.data(),
            nullptr,
            high_bias.data(),
            gain,
            chunk_end.data(),
            n_chunks};
  }
};

// ln Z of the ranges, each a Scaled, handed to take(range, sum) in their order.
template <class T, bool products, class Take>
void sum_ranges(const kernels::ExactRbmArgs& args, std::int64_t range_bits, const DeviceTables<T>& tables,
                const Take& take) {
  using Kernel = SumWeights<T, products>;
  using Sum = typename Kernel::Sum;
  // States times units of a block and of a launch: some 10 ms, and a tenth of a second.
  constexpr std::int64_t of_part = std::int64_t{1} << (products ? 28 : 24), of_launch = of_part << 12;
  constexpr std::int64_t most_parts = 1 << 16;
  const std::int64_t high_bits = tables.n - tables.low_bits - range_bits;
  Tables<T> view = tables.view;
  view.inner_bits = static_cast<int>(high_bits < tile_bits ? high_bits : tile_bits);
  const std::int64_t tiles = std::int64_t{1} << (high_bits - view.inner_bits), of_tile = tile * tile * view.m;
  const std::int64_t fitting = of_part / of_tile;
  const std::int64_t tiles_per_part = power_of_two_up_to(fitting < tiles ? fitting : tiles);
  const std::int64_t parts = tiles / tiles_per_part, all = parts * args.n_ranges;
  std::int64_t per_launch = of_launch / (tiles_per_part * of_tile);
  per_launch = per_launch < 1 ? 1 : per_launch > most_parts ? most_parts : per_launch;
  if (per_launch > all) per_launch = all;
  const DeviceBuffer<Sum> found(per_launch);
  std::vector<Sum> sums(static_cast<std::size_t>(per_launch));
  Sum total{Sum::nothing()};
  for (std::int64_t first = 0; first < all; first += per_launch) {
    const std::int64_t count = all - first < per_launch ? all - first : per_launch;
    launch(Kernel{view, args.first_range * parts + first, tiles_per_part, found.data()}, count);
    copy(sums.data(), found.data(), static_cast<std::size_t>(count) * sizeof(Sum));
    wait();
    for (std::int64_t k = 0; k < count; ++k) {
      total.add(sums[static_cast<std::size_t>(k)]);
      if ((first + k + 1) % parts != 0) continue;
      take((first + k) / parts, total);
      total = {Sum::nothing()};
    }
  }
}

}  // namespace

void exact_rbm(const kernels::ExactRbmArgs& args) {
  using kernels::RbmProducts;
  if (args.what != kernels::RbmSums::log_z) {
    throw TargetUnavailable("device='cuda': there is no kernel for the moments of an RBM");
  }
  const kernels::RbmView rbm = args.rbm.n_visible <= args.rbm.n_hidden ? args.rbm : args.rbm.transposed();
  const std::int64_t range_bits = kernels::exact_rbm_range_bits(rbm.n_visible, rbm.n_hidden);
  const Problem problem(rbm, args.beta);
  // In product form, if the model's range allows it.
  const auto as_products = [&]<class T>(T) {
    const ProductForm<T> form(problem.n, problem.m, problem.padded, problem.weights.data(), problem.bias.data(),
                              problem.other_bias.data(), std::int64_t{1} << 62, tile_bits);
    // Exponents of products are counted in 32 bits.
    if (!form.usable || problem.padded > std::int64_t{1} << 21) return false;
    sum_ranges<T, true>(args, range_bits, DeviceTables<T>(form), [&](std::int64_t range, const Scaled<true>& sum) {
      args.sums[2 * range] = static_cast<double>(sum.reference);
      args.sums[2 * range + 1] = sum.sum;
    });
    return true;
  };
  *args.single_precision = args.products == RbmProducts::single_precision && as_products(0.0f);
  *args.product_form = *args.single_precision || (args.products != RbmProducts::none && as_products(0.0));
  if (*args.product_form) return;
  sum_ranges<double, false>(args, range_bits, DeviceTables<double>(problem),
                            [&](std::int64_t range, const Scaled<false>& sum) {
                              const kernels::RowReference row = kernels::row_reference(sum.reference);
                              args.sums[2 * range] = row.exponent;
                              args.sums[2 * range + 1] = row.unit * sum.sum;
                            });
}

}  // namespace vfe::cuda
