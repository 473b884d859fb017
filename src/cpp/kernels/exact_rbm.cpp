#include "exact_rbm.hpp"

#include "../numerics/elementary.hpp"
#include "../runtime/threads.hpp"
#include "bit_layer.hpp"
#include "rbm_product_variance.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

using numerics::LogSumExp;
using runtime::Buffer;

constexpr std::int64_t lanes = padded_units;
constexpr std::int64_t units_per_log = 512;       // a product of 512 factors <= 2 fits a double
constexpr std::int64_t low_table_size = 1 << 14;  // numbers in the table of low states: 128 kB
constexpr std::int64_t product_table_size = 1 << 16, moments_table_size = 1 << 16;
constexpr std::int64_t max_low_bits = 8;

// Fields of the low states, for sums with exponentials.
struct LowFields : Problem {
  std::int64_t low_bits, n_low, n_high;
  Buffer<double> low_field;  // (n_low, padded): sum over the low bits
  Buffer<double> low_bias;   // (n_low,)

  LowFields(const RbmView& rbm, double beta)
      : Problem(rbm, beta),
        low_bits(choose_low_bits(n, padded)),
        n_low(std::int64_t{1} << low_bits),
        n_high(std::int64_t{1} << (n - low_bits)),
        low_field(n_low * padded),
        low_bias(n_low) {
    for (std::int64_t j = 0; j < padded; ++j) low_field[j] = 0;
    low_bias[0] = 0;
    for (std::int64_t i = 0; i < low_bits; ++i) {
      const std::int64_t known = std::int64_t{1} << i;
      for (std::int64_t l = 0; l < known; ++l) {
        low_bias[known + l] = low_bias[l] + bias[i];
        for (std::int64_t j = 0; j < padded; ++j) {
          low_field[(known + l) * padded + j] = low_field[l * padded + j] + weights[i * padded + j];
        }
      }
    }
  }

  static std::int64_t choose_low_bits(std::int64_t n, std::int64_t padded) {
    std::int64_t bits = 1;
    while (bits < n && bits < max_low_bits && (padded << (bits + 1)) <= low_table_size) ++bits;
    return bits;
  }

  VFE_HD bool high_bit(std::int64_t high, std::int64_t i) const { return (high >> (i - low_bits)) & 1; }
};

VFE_HD void scale(double* values, std::int64_t count, double factor) {  // also what was never written, by 0
  for (std::int64_t k = 0; k < count; ++k) values[k] = factor == 0.0 ? 0.0 : values[k] * factor;
}

// What a range of states adds up to, as multiples of e^total.reference. Without moments the arrays are empty.
struct Sums {
  LogSumExp total;
  double spread = 0;
  std::int64_t n, padded;
  Buffer<double> units;   // (n,): sum w s_i
  Buffer<double> others;  // (padded,): sum w sigma_j
  Buffer<double> pairs;   // (n, padded): sum w s_i sigma_j

  Sums(std::int64_t n_units, std::int64_t n_others)
      : n(n_units), padded(n_others), units(n), others(padded), pairs(n * padded) {
    rescale(0.0);
  }
  VFE_HD void rescale(double factor) {
    scale(units.data(), n, factor);
    scale(others.data(), padded, factor);
    scale(pairs.data(), n * padded, factor);
  }
};

// With x_j = high_j + low_j: sum_j softplus(x_j); on the way the means sigma_j = sigmoid(x_j), or the terms of
// sum_j x_j sigma_j and sum_j x_j^2 sigma_j (1 - sigma_j), lane by lane.
template <RbmSums what>
VFE_HD double log_weight(const double* __restrict high, const double* __restrict low, double* __restrict mean,
                         double (&energy)[lanes], double (&spread)[lanes], std::int64_t padded) {
  double logs = 0;
  double positive[lanes] = {};
  for (std::int64_t begin = 0; begin < padded; begin += units_per_log) {
    const std::int64_t count = padded - begin < units_per_log ? padded - begin : units_per_log;
    double factor[units_per_log], rectified[units_per_log], minor[units_per_log];
    for (std::int64_t j = 0; j < count; ++j) {
      const double x = high[begin + j] + low[begin + j];
      const double decay = numerics::exp_negative(-numerics::magnitude(x));
      factor[j] = 1.0 + decay;
      rectified[j] = x > 0.0 ? x : 0.0;
      if constexpr (what != RbmSums::log_z) mean[begin + j] = (x < 0.0 ? decay : 1.0) / (1.0 + decay);
      // x sigma(1 - sigma), where neither factor is a difference
      if constexpr (what == RbmSums::variance) minor[j] = x * (decay / ((1.0 + decay) * (1.0 + decay)));
    }
    double product[lanes] = {1, 1, 1, 1, 1, 1, 1, 1};
    for (std::int64_t j = 0; j < count; j += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) product[l] *= factor[j + l];
      for (std::int64_t l = 0; l < lanes; ++l) positive[l] += rectified[j + l];
    }
    if constexpr (what == RbmSums::variance) {
      for (std::int64_t j = 0; j < count; j += lanes) {
        for (std::int64_t l = 0; l < lanes; ++l) {
          const double x = high[begin + j + l] + low[begin + j + l];
          energy[l] -= x * mean[begin + j + l];
          spread[l] += x * minor[j + l];
        }
      }
    }
    double all = 1;
    for (std::int64_t l = 0; l < lanes; ++l) all *= product[l];
    logs += numerics::log(all);
  }
  for (std::int64_t l = 0; l < lanes; ++l) logs += positive[l];
  return logs;
}

template <RbmSums what>
void sum_range(const LowFields& p, double mean_energy, std::int64_t first_high, std::int64_t last_high, Sums& sums) {
  constexpr bool moments = what == RbmSums::moments;
  const Buffer<double> field(p.padded), mean(p.padded), block_others(p.padded);
  const Buffer<double> low_weight(p.n_low), low_others(moments ? p.n_low * p.padded : 0);
  for (std::int64_t l = 0; l < p.n_low; ++l) low_weight[l] = 0;
  if constexpr (moments) {
    for (std::int64_t k = 0; k < p.n_low * p.padded; ++k) low_others[k] = 0;
  }
  for (std::int64_t high = first_high; high < last_high; ++high) {
    runtime::check_interrupt();
    double high_bias = 0, block_weight = 0;
    for (std::int64_t j = 0; j < p.padded; ++j) {
      field[j] = p.other_bias[j];
      block_others[j] = 0;
    }
    for (std::int64_t i = p.low_bits; i < p.n; ++i) {
      if (!p.high_bit(high, i)) continue;
      high_bias += p.bias[i];
      for (std::int64_t j = 0; j < p.padded; ++j) field[j] += p.weights[i * p.padded + j];
    }
    for (std::int64_t l = 0; l < p.n_low; ++l) {
      double energy[lanes] = {}, spread[lanes] = {};
      const double own = high_bias + p.low_bias[l];
      const double exponent = own + log_weight<what>(field.data(), p.low_field.data() + l * p.padded, mean.data(),
                                                     energy, spread, p.padded);
      const double factor = sums.total.make_room(exponent);
      if (factor != 1.0) [[unlikely]] {
        block_weight *= factor;
        sums.spread *= factor;
        scale(low_weight.data(), p.n_low, factor);
        if constexpr (moments) {
          sums.rescale(factor);
          scale(block_others.data(), p.padded, factor);
          scale(low_others.data(), p.n_low * p.padded, factor);
        }
      }
      const double weight = numerics::exp(exponent - sums.total.reference);
      block_weight += weight;
      low_weight[l] += weight;
      if constexpr (what == RbmSums::variance) {
        double deviation = -own - mean_energy, within = 0;
        for (std::int64_t k = 0; k < lanes; ++k) {
          deviation += energy[k];
          within += spread[k];
        }
        sums.spread += weight * (deviation * deviation + within);
      }
      if constexpr (moments) {
        double* __restrict by_low = low_others.data() + l * p.padded;
        double* __restrict by_block = block_others.data();
        const double* __restrict means = mean.data();
        for (std::int64_t j = 0; j < p.padded; ++j) {
          const double share = weight * means[j];
          by_low[j] += share;
          by_block[j] += share;
        }
      }
    }
    sums.total.sum += block_weight;
    if constexpr (!moments) continue;
    for (std::int64_t j = 0; j < p.padded; ++j) sums.others[j] += block_others[j];
    for (std::int64_t i = p.low_bits; i < p.n; ++i) {
      if (!p.high_bit(high, i)) continue;
      sums.units[i] += block_weight;
      for (std::int64_t j = 0; j < p.padded; ++j) sums.pairs[i * p.padded + j] += block_others[j];
    }
  }
  if constexpr (!moments) return;
  for (std::int64_t i = 0; i < p.low_bits; ++i) {
    for (std::int64_t l = 0; l < p.n_low; ++l) {
      if (((l >> i) & 1) == 0) continue;
      sums.units[i] += low_weight[l];
      for (std::int64_t j = 0; j < p.padded; ++j) sums.pairs[i * p.padded + j] += low_others[l * p.padded + j];
    }
  }
}

void write_with_exponentials(const LowFields& p, const ExactRbmArgs& args, std::int64_t range, std::int64_t range_bits,
                             double* out) {
  const bool moments = args.what == RbmSums::moments, variance = args.what == RbmSums::variance;
  const std::int64_t highs = p.n_high >> range_bits;
  Sums sums(moments ? p.n : 0, moments ? p.padded : 0);
  const auto sum = moments    ? sum_range<RbmSums::moments>
                   : variance ? sum_range<RbmSums::variance>
                              : sum_range<RbmSums::log_z>;
  sum(p, args.beta * args.energy, range * highs, (range + 1) * highs, sums);
  const auto [exponent, unit] = row_reference(sums.total.reference);
  *out++ = exponent;
  *out++ = unit * sums.total.sum;
  if (variance) *out = unit * sums.spread / (args.beta * args.beta);
  if (!moments) return;
  for (std::int64_t i = 0; i < p.n; ++i) *out++ = unit * sums.units[i];
  for (std::int64_t j = 0; j < p.m; ++j) *out++ = unit * sums.others[j];
  for (std::int64_t i = 0; i < p.n; ++i) {
    for (std::int64_t j = 0; j < p.m; ++j) *out++ = unit * sums.pairs[i * p.padded + j];
  }
}

template <class T>
void write_product(const ProductForm<T>& form, std::int64_t range, std::int64_t range_bits, double* out) {
  const std::int64_t highs = form.n_high >> range_bits;
  const ScaledSum sum = sum_products(form, range * highs, (range + 1) * highs);
  out[0] = static_cast<double>(sum.reference);
  out[1] = sum.sum;
}

void write_product_moments(ProductMoments& sums, std::int64_t m, std::int64_t range, double* out) {
  const ProductForm<double>& form = sums.form;
  const std::int64_t bits = sums.range_bits;
  sums.sum(range << bits);
  const double* total = sums.total();
  *out++ = static_cast<double>(sums.reference);
  *out++ = total[form.m];
  double *units = out, *others = out + form.n, *pairs = others + m;
  for (std::int64_t j = 0; j < m; ++j) others[j] = total[j];
  const auto take = [&](std::int64_t i, const double* with_bit) {
    units[i] = with_bit[form.m];
    for (std::int64_t j = 0; j < m; ++j) pairs[i * m + j] = with_bit[j];
  };
  sums.fold_low(take);
  for (std::int64_t k = 0; k < bits; ++k) take(form.low_bits + k, sums.by_bit.data() + k * sums.size);
  // Above, all states of the range have the bit or none has.
  const runtime::Buffer<double> none(sums.size);
  scale(none.data(), sums.size, 0.0);
  for (std::int64_t i = form.low_bits + bits; i < form.n; ++i) {
    take(i, (range >> (i - form.low_bits - bits) & 1) != 0 ? total : none.data());
  }
}

void write_product_variance(ProductVariance& sums, const ExactRbmArgs& args, std::int64_t range, double* out) {
  sums.sum(range << sums.range_bits, args.beta * args.energy);
  out[0] = static_cast<double>(sums.reference);
  out[1] = sums.total()[sums.form.m];
  out[2] = sums.spread / (args.beta * args.beta);
}

}  // namespace

void exact_rbm(const ExactRbmArgs& args) {
  const RbmView rbm = args.rbm.n_visible <= args.rbm.n_hidden ? args.rbm : args.rbm.transposed();
  const std::int64_t range_bits = exact_rbm_range_bits(rbm.n_visible, rbm.n_hidden);
  const std::int64_t size = exact_rbm_sums(rbm.n_visible, rbm.n_hidden, args.what);
  const double cost = static_cast<double>(std::int64_t{1} << (rbm.n_visible - range_bits)) *
                      static_cast<double>(rbm.n_hidden) * static_cast<double>(args.n_ranges);

  const bool moments = args.what == RbmSums::moments;
  const Problem problem(rbm, args.beta);
  const auto form_of = [&]<class T>(T, std::int64_t table_size) {
    return ProductForm<T>(problem.n, problem.m, problem.padded, problem.weights.data(), problem.bias.data(),
                          problem.other_bias.data(), table_size);
  };
  *args.product_form = true;
  // ln Z in product form, if `form` is usable.
  const auto write_all = [&](const auto& form, double nanoseconds) {
    if (!form.usable) return false;
    const auto write = [&](std::int64_t k) {
      write_product(form, args.first_range + k, range_bits, args.sums + k * size);
    };
    runtime::parallel_for(args.n_ranges, nanoseconds, args.num_threads, write);
    return true;
  };
  *args.single_precision = args.what == RbmSums::log_z && args.products == RbmProducts::single_precision &&
                           write_all(form_of(0.0f, 2 * product_table_size), 0.04 * cost);
  if (*args.single_precision) return;
  const bool products = args.products != RbmProducts::none;
  if (products && args.what == RbmSums::log_z && write_all(form_of(0.0, product_table_size), 0.08 * cost)) return;
  if (products && args.what != RbmSums::log_z) {
    const ProductForm<double> form = form_of(0.0, moments_table_size);
    if (form.usable && form.groups_in_range) {
      // Some ranges a task: they share its memory.
      const std::int64_t bits = form.n - form.low_bits - range_bits;
      const double nanoseconds = 0.3 * cost;
      const std::int64_t count = runtime::items_per_task(args.n_ranges, 8, nanoseconds, args.num_threads);
      const auto write = [&](std::int64_t task) {
        const std::int64_t end = (task + 1) * count < args.n_ranges ? (task + 1) * count : args.n_ranges;
        if (moments) {
          ProductMoments sums(form, bits);
          for (std::int64_t k = task * count; k < end; ++k) {
            write_product_moments(sums, problem.m, args.first_range + k, args.sums + k * size);
          }
        } else {
          ProductVariance sums(form, bits, problem.m, problem.other_bias.data());
          for (std::int64_t k = task * count; k < end; ++k) {
            write_product_variance(sums, args, args.first_range + k, args.sums + k * size);
          }
        }
      };
      return runtime::parallel_for(ceil_div(args.n_ranges, count), nanoseconds, args.num_threads, write);
    }
  }
  *args.product_form = false;
  const LowFields fields(rbm, args.beta);
  const auto write = [&](std::int64_t task) {
    write_with_exponentials(fields, args, args.first_range + task, range_bits, args.sums + task * size);
  };
  runtime::parallel_for(args.n_ranges, 2.0 * cost, args.num_threads, write);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
