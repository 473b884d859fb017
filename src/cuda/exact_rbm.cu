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
using kernels::RbmSums;
using kernels::ScaledSum;

constexpr int tile_bits = 6, tile = 1 << tile_bits;  // high states, and low ones
constexpr int unit_step = 32;                        // units whose factors are shared at a time
constexpr std::int64_t units_per_exponent = 512;     // a product of 512 factors <= 2 fits a double

// What is summed, as the device sees it. In product form a state and unit contribute the factor A + C, with
// exponentials 1 + e^(A + C), where A and C are fields.
template <class T>
struct Tables {
  std::int64_t m;
  int low_bits, n_high_bits, inner_bits;  // those of a tile's high states, at most tile_bits
  const T* low;                           // (m, tile): C
  const double *base, *step;              // (m,), (n_high_bits, m): A of the high state 0, what a bit adds to it
  const double* low_own;                  // (tile,): mantissa of the weight of its own, or its logarithm
  const std::int64_t* low_exponent;       // (tile,)
  const double* high_bias;                // (n_high_bits,)
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
  // Makes the larger of the references that of both; their terms are then to be multiplied with these.
  struct Factors {
    double own, other;
  };
  VFE_HD Factors meet(Reference other) {
    if (other <= reference) return {1.0, power(other - reference)};
    const double own = sum == 0.0 ? 0.0 : power(reference - other);
    reference = other;
    sum *= own;
    return {own, 1.0};
  }
};

template <class T, bool products, RbmSums what>
struct SumWeights {
  static constexpr int n_threads = 128, rows = 8, columns = 4, width = 16 / sizeof(T);
  static constexpr int n_warps = n_threads / warp_size;
  static constexpr int n_sums = 11;  // of a warp and unit: see add_up
  static_assert(what == RbmSums::log_z || (what == RbmSums::moments ? width == 2 : !products));
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
    double sums[what == RbmSums::moments ? n_warps : 1][n_sums][unit_step];
  };
  Tables<T> tables;
  std::int64_t first_part, tiles_per_part;
  double mean;        // of the energy times beta, for the variance
  Sum* out;           // a part each
  std::int64_t size;  // of what a part has besides
  // moments: (n + 1, m + 1), sum w sigma_j and sum w over the states that have unit i, and in the last row over all;
  // variance: (1,).
  double* more;

  VFE_DEVICE void operator()(const Thread& thread) const {
    auto& shared = thread.shared<Shared>();
    Sum total{Sum::nothing()};
    for (std::int64_t k = 0; k < tiles_per_part; ++k) {
      const std::int64_t of_tile = (first_part + thread.block()) * tiles_per_part + k;
      const std::int64_t first_high = of_tile << tables.inner_bits;
      double weight[rows][columns];
      const Reference top = weigh(thread, shared, first_high, weight);
      const auto factors = total.meet(top);
      double sum = 0;
      VFE_UNROLL
      for (int r = 0; r < rows; ++r) {
        VFE_UNROLL
        for (int c = 0; c < columns; ++c) sum += weight[r][c];
      }
      total.sum += factors.other * sum_of(thread, shared, sum);
      if constexpr (what == RbmSums::moments) {
        VFE_UNROLL
        for (int r = 0; r < rows; ++r) {
          VFE_UNROLL
          for (int c = 0; c < columns; ++c) weight[r][c] *= factors.other;
        }
        add_moments(thread, shared, first_high, weight, k == 0 ? 0.0 : factors.own);
      }
      if constexpr (what == RbmSums::variance) {
        const double spread = factors.other * spread_of(thread, shared, first_high, weight);
        double& into = more[thread.block()];
        if (thread.index() == 0) into = k == 0 ? spread : into * factors.own + spread;
      }
    }
    if (thread.index() == 0) out[thread.block()] = total;
  }

  // The weights of this thread's states, as multiples of what is returned: the same for all threads.
  VFE_DEVICE Reference weigh(const Thread& thread, Shared& shared, std::int64_t first_high,
                             double (&weight)[rows][columns]) const {
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
    const auto take = [&](std::int64_t begin, int u, const T(&a)[rows], const T(&c)[columns]) {
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
      if (begin + u + 1 != end) return;
      ++chunk;
      end = chunk < tables.n_chunks ? tables.chunk_end[chunk] : 0;
      VFE_UNROLL
      for (int r = 0; r < rows; ++r) {
        VFE_UNROLL
        for (int k = 0; k < columns; ++k) powers[r][k] += take_out_exponent(product[r][k]);
      }
    };
    for_units(thread, shared, first_high, take, [](std::int64_t, int) {});

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
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      const double own = shared.own[thread.index() / 16 * rows + r];
      VFE_UNROLL
      for (int k = 0; k < columns; ++k) {
        if constexpr (products) {
          weight[r][k] = static_cast<double>(product[r][k]) * (own * own_low[k]) * Sum::power(reference(r, k) - top);
        } else {
          weight[r][k] = Sum::power(positive[r][k] - top);
        }
      }
    }
    return top;
  }

  // take(begin, u, a, c) for each unit begin + u, and done(begin, count) after some of them.
  template <class Take, class Done>
  VFE_DEVICE void for_units(const Thread& thread, Shared& shared, std::int64_t first_high, const Take& take,
                            const Done& done) const {
    for (std::int64_t begin = 0; begin < tables.m; begin += unit_step) {
      const int count = tables.m - begin < unit_step ? static_cast<int>(tables.m - begin) : unit_step;
      thread.barrier();
      set_factors(thread, shared, begin, count, first_high);
      thread.barrier();
      for (int u = 0; u < count; ++u) {
        T a[rows], c[columns];
        load(&shared.high[u][thread.index() / 16 * rows], 1, a);
        load(&shared.low[u][thread.index() % 16 * width], 16, c);
        take(begin, u, a, c);
      }
      done(begin, count);
    }
  }

  // w sigma_j of all units, and then w, to those of the part, which are multiplied with `before`.
  VFE_DEVICE void add_moments(const Thread& thread, Shared& shared, std::int64_t first_high,
                              const double (&weight)[rows][columns], double before) const {
    const auto take = [&](std::int64_t, int u, const T(&a)[rows], const T(&c)[columns]) {
      double share[rows][columns];
      VFE_UNROLL
      for (int r = 0; r < rows; ++r) {
        VFE_UNROLL
        for (int k = 0; k < columns; ++k) {
          if constexpr (products) {
            share[r][k] = weight[r][k] * (a[r] / (a[r] + c[k]));
          } else {
            share[r][k] = weight[r][k] * numerics::sigmoid(a[r] + c[k]);
          }
        }
      }
      add_up(thread, shared, share, u);
    };
    for_units(thread, shared, first_high, take,
              [&](std::int64_t begin, int count) { add_to_part(thread, shared, first_high, begin, count, before); });
    thread.barrier();
    add_up(thread, shared, weight, 0);
    add_to_part(thread, shared, first_high, tables.m, 1, before);
  }

  // Sums of a warp's shares, over all of its states (0) and over those in which a bit is set: bits of the lane (1 to
  // 5), of the row (6 to 8), of the column (9, 10).
  VFE_DEVICE static void add_up(const Thread& thread, Shared& shared, const double (&share)[rows][columns], int u) {
    double of_column[columns] = {}, sums[n_sums] = {};
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      VFE_UNROLL
      for (int k = 0; k < columns; ++k) of_column[k] += share[r][k];
      const double of_row = (share[r][0] + share[r][1]) + (share[r][2] + share[r][3]);
      sums[0] += of_row;
      VFE_UNROLL
      for (int bit = 0; bit < 3; ++bit) {
        if ((r >> bit & 1) != 0) sums[6 + bit] += of_row;
      }
    }
    sums[9] = of_column[1] + of_column[3];
    sums[10] = of_column[2] + of_column[3];
    VFE_UNROLL
    for (int bit = 0; bit < 5; ++bit) {
      const int mask = 1 << bit;
      VFE_UNROLL
      for (int k = 1; k < n_sums; ++k) {
        if (k <= bit || k > 5) sums[k] += thread.shuffle_xor(sums[k], mask);
      }
      const double other = thread.shuffle_xor(sums[0], mask);
      sums[1 + bit] = (thread.lane() & mask) != 0 ? sums[0] : other;
      sums[0] += other;
    }
    if (thread.lane() != 0) return;
    VFE_UNROLL
    for (int k = 0; k < n_sums; ++k) shared.sums[thread.warp()][k][u] = sums[k];
  }

  // A lane takes a unit, a warp every fourth row. High state h of a tile is row h % 8 of thread group h / 8, low state
  // l column l % 2 + l / 32 * 2 of lane l / 2 % 16.
  VFE_DEVICE void add_to_part(const Thread& thread, Shared& shared, std::int64_t first_high, std::int64_t begin,
                              int count, double before) const {
    thread.barrier();
    const int u = thread.lane();
    if (u >= count) return;
    const auto sum = [&](int k, int of_warps) {  // over the warps in whose number the bits of_warps are set
      double total = 0;
      VFE_UNROLL
      for (int w = 0; w < n_warps; ++w) total += (w & of_warps) == of_warps ? shared.sums[w][k][u] : 0.0;
      return total;
    };
    const int n = tables.low_bits + tables.n_high_bits;
    for (int i = thread.warp(); i <= n; i += n_warps) {
      const int high = i - tables.low_bits;
      double found;
      if (i == n) {
        found = sum(0, 0);
      } else if (high < 0) {
        found = sum(i == 0 ? 9 : i == 5 ? 10 : i, 0);
      } else if (high < tables.inner_bits) {
        found = high < 3 ? sum(6 + high, 0) : high == 3 ? sum(5, 0) : sum(0, high - 3);
      } else {
        found = (first_high >> high & 1) != 0 ? sum(0, 0) : 0.0;
      }
      double& into = more[thread.block() * size + i * (tables.m + 1) + begin + u];
      into = before == 0.0 ? found : into * before + found;
    }
  }

  // sum w [(E_s - mean)^2 + sum_j x_j^2 sigma_j (1 - sigma_j)] over the tile.
  VFE_DEVICE double spread_of(const Thread& thread, Shared& shared, std::int64_t first_high,
                              const double (&weight)[rows][columns]) const {
    double energy[rows][columns] = {}, within[rows][columns] = {};
    const auto take = [&](std::int64_t, int, const T(&a)[rows], const T(&c)[columns]) {
      VFE_UNROLL
      for (int r = 0; r < rows; ++r) {
        VFE_UNROLL
        for (int k = 0; k < columns; ++k) {
          const double x = a[r] + c[k], decay = numerics::exp_negative(-numerics::magnitude(x));
          const double inverse = 1.0 / (1.0 + decay);
          energy[r][k] -= x * ((x < 0.0 ? decay : 1.0) * inverse);
          within[r][k] += x * (x * (decay * inverse * inverse));  // neither sigma nor 1 - sigma is a difference
        }
      }
    };
    for_units(thread, shared, first_high, take, [](std::int64_t, int) {});
    double sum = 0;
    VFE_UNROLL
    for (int r = 0; r < rows; ++r) {
      VFE_UNROLL
      for (int k = 0; k < columns; ++k) {
        if (weight[r][k] == 0.0) continue;  // or a state that is not there
        const double own = shared.own[thread.index() / 16 * rows + r] + tables.low_own[column(thread, k)];
        const double deviation = (energy[r][k] - own) - mean;
        sum += weight[r][k] * (deviation * deviation + within[r][k]);
      }
    }
    return sum_of(thread, shared, sum);
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
        for (int l = 0; l < group / 2; ++l) {  // a bound that varies would put a[] into memory
          if (l < 1 << k) a[(1 << k) + l] = join(a[l], of_bit);
        }
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
            static_cast<int>(low_bits),
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

// What a range adds up to: SumWeights::out and SumWeights::more.
template <bool products>
struct RangeSums {
  Scaled<products> total{Scaled<products>::nothing()};
  std::vector<double> more;

  void add(const Scaled<products>& part, const double* of_part) {
    const auto factors = total.meet(part.reference);
    total.sum += factors.other * part.sum;
    for (std::size_t k = 0; k < more.size(); ++k) {
      more[k] = (more[k] == 0.0 ? 0.0 : more[k] * factors.own) + factors.other * of_part[k];
    }
  }
};

// The sums of the ranges, handed to take(range, sums) in their order.
template <class T, bool products, RbmSums what, class Take>
void sum_ranges(const kernels::ExactRbmArgs& args, std::int64_t range_bits, const DeviceTables<T>& tables,
                const Take& take) {
  using Kernel = SumWeights<T, products, what>;
  using Sum = typename Kernel::Sum;
  // States times units of a block and of a launch: some 10 ms, and a tenth of a second.
  constexpr std::int64_t of_part = std::int64_t{1} << (products ? 28 : 24), of_launch = of_part << 12;
  constexpr std::int64_t most_parts = 1 << 16, most_numbers = 1 << 24;
  const std::int64_t high_bits = tables.n - tables.low_bits - range_bits;
  Tables<T> view = tables.view;
  view.inner_bits = static_cast<int>(high_bits < tile_bits ? high_bits : tile_bits);
  const std::int64_t tiles = std::int64_t{1} << (high_bits - view.inner_bits), of_tile = tile * tile * view.m;
  const std::int64_t fitting = of_part / of_tile;
  const std::int64_t tiles_per_part = power_of_two_up_to(fitting < tiles ? fitting : tiles);
  const std::int64_t parts = tiles / tiles_per_part, all = parts * args.n_ranges;
  const std::int64_t size = what == RbmSums::moments    ? (tables.n + 1) * (view.m + 1)
                            : what == RbmSums::variance ? 1
                                                        : 0;
  std::int64_t per_launch = of_launch / (tiles_per_part * of_tile);
  if (per_launch > most_numbers / (size + 1)) per_launch = most_numbers / (size + 1);
  per_launch = per_launch < 1 ? 1 : per_launch > most_parts ? most_parts : per_launch;
  if (per_launch > all) per_launch = all;
  const DeviceBuffer<Sum> found(per_launch);
  const DeviceBuffer<double> more(per_launch * size);
  std::vector<Sum> sums(static_cast<std::size_t>(per_launch));
  std::vector<double> of_parts(static_cast<std::size_t>(per_launch * size));
  RangeSums<products> range;
  range.more.resize(static_cast<std::size_t>(size));
  for (std::int64_t first = 0; first < all; first += per_launch) {
    const std::int64_t count = all - first < per_launch ? all - first : per_launch;
    launch(Kernel{view, args.first_range * parts + first, tiles_per_part, args.beta * args.energy, found.data(), size,
                  more.data()},
           count);
    copy(sums.data(), found.data(), static_cast<std::size_t>(count) * sizeof(Sum));
    copy(of_parts.data(), more.data(), static_cast<std::size_t>(count * size) * sizeof(double));
    wait();
    for (std::int64_t k = 0; k < count; ++k) {
      range.add(sums[static_cast<std::size_t>(k)], of_parts.data() + k * size);
      if ((first + k + 1) % parts != 0) continue;
      take((first + k) / parts, range);
      range.total = {Sum::nothing()};
      range.more.assign(range.more.size(), 0.0);
    }
  }
}

// Writes a row as the contract has it, of numbers that are multiples of 2^exponent / unit.
void write_row(const kernels::ExactRbmArgs& args, const Problem& problem, std::int64_t range, double exponent,
               double unit, double sum, const std::vector<double>& more) {
  const std::int64_t n = problem.n, m = problem.m, width = problem.padded + 1;
  double* out = args.sums + range * kernels::exact_rbm_sums(n, m, args.what);
  *out++ = exponent;
  *out++ = unit * sum;
  const auto at = [&](std::int64_t i, std::int64_t j) { return unit * more[static_cast<std::size_t>(i * width + j)]; };
  if (args.what == RbmSums::variance) *out = at(0, 0) / (args.beta * args.beta);
  if (args.what != RbmSums::moments) return;
  for (std::int64_t i = 0; i < n; ++i) *out++ = at(i, problem.padded);
  for (std::int64_t j = 0; j < m; ++j) *out++ = at(n, j);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < m; ++j) *out++ = at(i, j);
  }
}

}  // namespace

void exact_rbm(const kernels::ExactRbmArgs& args) {
  using kernels::RbmProducts;
  const kernels::RbmView rbm = args.rbm.n_visible <= args.rbm.n_hidden ? args.rbm : args.rbm.transposed();
  const std::int64_t range_bits = kernels::exact_rbm_range_bits(rbm.n_visible, rbm.n_hidden);
  const Problem problem(rbm, args.beta);
  // In product form, if the model's range allows it.
  const auto as_products = [&]<class T>(T) {
    const ProductForm<T> form(problem.n, problem.m, problem.padded, problem.weights.data(), problem.bias.data(),
                              problem.other_bias.data(), std::int64_t{1} << 62, tile_bits);
    // Exponents of products are counted in 32 bits.
    if (!form.usable || problem.padded > std::int64_t{1} << 21) return false;
    const auto write = [&](std::int64_t range, const RangeSums<true>& sums) {
      write_row(args, problem, range, static_cast<double>(sums.total.reference), 1.0, sums.total.sum, sums.more);
    };
    if constexpr (sizeof(T) == sizeof(double)) {
      if (args.what == RbmSums::moments) {
        sum_ranges<T, true, RbmSums::moments>(args, range_bits, DeviceTables<T>(form), write);
        return true;
      }
    }
    sum_ranges<T, true, RbmSums::log_z>(args, range_bits, DeviceTables<T>(form), write);
    return true;
  };
  // The variance is found with exponentials.
  const bool products = args.products != RbmProducts::none && args.what != RbmSums::variance;
  *args.single_precision =
      args.products == RbmProducts::single_precision && args.what == RbmSums::log_z && as_products(0.0f);
  *args.product_form = *args.single_precision || (products && as_products(0.0));
  if (*args.product_form) return;
  const auto write = [&](std::int64_t range, const RangeSums<false>& sums) {
    const kernels::RowReference row = kernels::row_reference(sums.total.reference);
    write_row(args, problem, range, row.exponent, row.unit, sums.total.sum, sums.more);
  };
  const DeviceTables<double> fields(problem);
  switch (args.what) {
    case RbmSums::log_z:
      return sum_ranges<double, false, RbmSums::log_z>(args, range_bits, fields, write);
    case RbmSums::moments:
      return sum_ranges<double, false, RbmSums::moments>(args, range_bits, fields, write);
    case RbmSums::variance:
      return sum_ranges<double, false, RbmSums::variance>(args, range_bits, fields, write);
  }
}

}  // namespace vfe::cuda
