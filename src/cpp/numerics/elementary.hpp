// exp, expm1, log, log1p, sigmoid, softplus and the like without branches, tables or fused operations: plain
// multiplications and additions in a fixed order, so a loop over them vectorises and every
// instruction set gives the same bits. (The baseline has no FMA, and emulating one costs fifty
// times a multiplication.) Coefficients: tests/oracles/fit_polynomials.py. Measured error bounds in
// units of the last place: the table in docs/numerics.md, which tests/test_numerics.py holds them to.
#pragma once

#include <bit>
#include <limits>

#include "config.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

template <class T>
struct Format;

template <>
struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa_bits = 52, bias = 1023;
  static constexpr double round_magic = 0x1.8p52;
  static constexpr double exp_min = -745.2, exp_max = 709.79;
  static constexpr double ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
};

template <>
struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa_bits = 23, bias = 127;
  static constexpr float round_magic = 0x1.8p23f;
  static constexpr float exp_min = -104.0f, exp_max = 88.73f;
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
};

template <class T, int n>
VFE_HD T polynomial(const T (&c)[n], T x) {
  T sum = c[n - 1];
  VFE_UNROLL
  for (int k = n - 2; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}

// The same polynomial by pairs and pairs of pairs: more operations, of which fewer wait for each other.
template <class T, int n>
VFE_HD T polynomial_by_pairs(const T (&c)[n], T x) {
  static_assert(n == 6 || n == 10);
  const T x2 = x * x, x4 = x2 * x2;
  const T low = (c[0] + c[1] * x) + x2 * (c[2] + c[3] * x);
  if constexpr (n == 6) {
    return low + x4 * (c[4] + c[5] * x);
  } else {
    return low + x4 * (((c[4] + c[5] * x) + x2 * (c[6] + c[7] * x)) + x4 * (c[8] + c[9] * x));
  }
}

// What is left of each function after its leading terms; the intervals are in fit_polynomials.py.
template <class T>
struct Remainder;

template <>
struct Remainder<double> {
  template <bool by_pairs = false>
  VFE_HD static double exp(double r) {  // (e^r - 1 - r) / r^2
    constexpr double c[] = {0.5000000000000001,    0.16666666666666667,    0.041666666666624128,  0.0083333333333300618,
                            0.0013888888917213717, 0.00019841269863053617, 2.4801521295954375e-5, 2.7557268459997065e-6,
                            2.7620088445409748e-7, 2.5100385495510319e-8};
    return by_pairs ? polynomial_by_pairs(c, r) : polynomial(c, r);
  }
  VFE_HD static double log1p(double z) {  // (atanh(s) / s - 1) / z, z = s^2 <= 1/9
    constexpr double c[] = {0.33333333333333329,  0.20000000000007291,  0.14285714283554379,  0.11111111358713931,
                            0.090908947180664291, 0.076927850324793116, 0.066570721048274681, 0.060005364047953562,
                            0.044003692430723371, 0.080820228059717659};
    return polynomial(c, z);
  }
  VFE_HD static double log(double z) {  // the same for z <= (3 - sqrt 8)^2
    constexpr double c[] = {0.33333333333333349,  0.19999999999949445,  0.14285714313126919, 0.11111105544689748,
                            0.090914462162684356, 0.076658058610275041, 0.073089035767086608};
    return polynomial(c, z);
  }
};

template <>
struct Remainder<float> {
  template <bool by_pairs = false>
  VFE_HD static float exp(float r) {
    constexpr float c[] = {0.500000001f, 0.166666667f, 0.0416664649f, 0.00833331093f, 0.001393365f, 0.000198909908f};
    return by_pairs ? polynomial_by_pairs(c, r) : polynomial(c, r);
  }
  VFE_HD static float log1p(float z) {
    constexpr float c[] = {0.333333337f, 0.199998532f, 0.14296179f, 0.108532879f, 0.116121646f};
    return polynomial(c, z);
  }
  VFE_HD static float log(float z) {
    constexpr float c[] = {0.333333333f, 0.200000611f, 0.142753893f, 0.116658072f};
    return polynomial(c, z);
  }
};

template <class T>
VFE_HD T magnitude(T x) {
  using Bits = typename Format<T>::Bits;
  return std::bit_cast<T>(std::bit_cast<Bits>(x) & static_cast<Bits>(~Bits{0} >> 1));
}

template <class T>
VFE_HD T square_root(T x) {
  if constexpr (sizeof(T) == 4) {
    return __builtin_sqrtf(x);
  } else {
    return __builtin_sqrt(x);
  }
}

// An integer of at most mantissa_bits as a T: not every instruction set converts 64 bits.
template <class T>
VFE_HD T integer(typename Format<T>::Bits k) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  constexpr Bits one = static_cast<Bits>(F::bias + F::mantissa_bits) << F::mantissa_bits;  // its last bit is worth 1
  return std::bit_cast<T>(static_cast<Bits>(k | one)) - std::bit_cast<T>(one);
}

// 2^-k x, where that is a normal number.
template <class T>
VFE_HD T scale_down(T x, int k) {
  using Bits = typename Format<T>::Bits;
  return std::bit_cast<T>(
      static_cast<Bits>(std::bit_cast<Bits>(x) - (static_cast<Bits>(k) << Format<T>::mantissa_bits)));
}

// 2^k for k (an integer given as round_magic + k) within the normal range.
template <class T>
VFE_HD T power_of_two(T shifted) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  return std::bit_cast<T>(
      static_cast<Bits>((std::bit_cast<Bits>(shifted) + static_cast<Bits>(F::bias)) << F::mantissa_bits));
}

// x within the range of exp: at its ends results are 0 and infinite already. NaN passes through.
template <class T>
VFE_HD T exp_range(T x) {
  const T least = x < Format<T>::exp_min ? Format<T>::exp_min : x;
  return least > Format<T>::exp_max ? Format<T>::exp_max : least;
}

// 2^k p in two factors: k (a whole number) reaches 1024 and -1075, where 2^k itself is not a normal number.
template <class T>
VFE_HD T times_power(T p, T k) {
  using F = Format<T>;
  const T half = (k * T(0.5) + F::round_magic) - F::round_magic;
  return p * power_of_two(half + F::round_magic) * power_of_two((k - half) + F::round_magic);
}

// The whole range: subnormal results are gradual, NaN passes through.
template <class T>
VFE_HD T exp(T x) {
  using F = Format<T>;
  const T clamped = exp_range(x);
  const T k = (clamped * T(1.4426950408889634) + F::round_magic) - F::round_magic;
  const T r = (clamped - k * F::ln2_high) - k * F::ln2_low;
  return times_power(T(1) + (r + r * r * Remainder<T>::exp(r)), k);
}

// For -700 <= x <= 0 (double), -87 <= x <= 0 (float) the same as exp; below, 0.
template <class T>
VFE_HD T exp_negative(T x) {
  using F = Format<T>;
  constexpr T lowest = sizeof(T) == 8 ? T(-700) : T(-87);
  const T clamped = x < lowest ? lowest : x;
  const T shifted = clamped * T(1.4426950408889634) + F::round_magic;
  const T k = shifted - F::round_magic;
  const T r = (clamped - k * F::ln2_high) - k * F::ln2_low;
  const T p = T(1) + (r + r * r * Remainder<T>::exp(r));
  return x < lowest ? T(0) : p * power_of_two(shifted);
}

template <class T>
struct ExpParts {
  T value, growth, excess;  // e^x, e^2x - 1, e^2x - 1 - 2x
};

template <class T>
constexpr T parts_bound = sizeof(T) == 8 ? T(700) : T(80);

// From one exponential, with relative accuracy where they are small, too. For |x| <= ln 2 / 2 the exponential is
// 1 + r + a with r = x, and what is left is made of a and of r + a. `bounded`: only for |x| <= parts_bound, where it
// gives the same bits in half the time.
template <bool bounded = false, class T>
VFE_HD ExpParts<T> exp_parts(T x) {
  using F = Format<T>;
  const T clamped = bounded ? x : exp_range(x);
  const T shifted = clamped * T(1.4426950408889634) + F::round_magic, k = shifted - F::round_magic;
  const T r = (clamped - k * F::ln2_high) - k * F::ln2_low;
  const T a = r * r * Remainder<T>::template exp<true>(r), p = r + a;
  const T value = bounded ? (T(1) + p) * power_of_two(shifted) : times_power(T(1) + p, k);
  const T far = value * value - T(1), near = p * (T(2) + p), far_excess = far - T(2) * x,
          near_excess = T(2) * a + p * p;
  return {value, k == T(0) ? near : far, k == T(0) ? near_excess : far_excess};
}

// e^x - 1, and what is left of it without x, e^x - 1 - x.
template <class T>
VFE_HD T expm1(T x) {
  return exp_parts(T(0.5) * x).growth;
}
template <class T>
VFE_HD T exp_excess(T x) {
  return exp_parts(T(0.5) * x).excess;
}

// ln(1 + y) for 0 <= y <= 1, without cancellation: 2 atanh(y / (2 + y)).
template <class T>
VFE_HD T log1p_unit(T y) {
  const T s = y / (T(2) + y);
  const T z = s * s;
  return T(2) * (s + s * z * Remainder<T>::log1p(z));
}

// A positive normal x as 2^exponent times a number between sqrt(1/2) and sqrt 2.
template <class T>
struct LogParts {
  T reduced, exponent;
};
template <class T>
VFE_HD LogParts<T> log_parts(T x) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  constexpr Bits mantissa = (Bits{1} << F::mantissa_bits) - 1;
  constexpr Bits one = static_cast<Bits>(F::bias) << F::mantissa_bits;
  constexpr Bits least = std::bit_cast<Bits>(T(1.4142135623730951)) - mantissa;
  const Bits shifted = std::bit_cast<Bits>(x) + (one - least);
  return {std::bit_cast<T>(static_cast<Bits>((shifted & mantissa) + least)),
          integer<T>(shifted >> F::mantissa_bits) - static_cast<T>(F::bias)};
}

// exponent ln 2 + 2 atanh(s), for |s| <= (sqrt 2 - 1) / (sqrt 2 + 1).
template <class T>
VFE_HD T log_of_parts(T exponent, T s) {
  using F = Format<T>;
  const T z = s * s;
  return exponent * F::ln2_high + (T(2) * (s + s * z * Remainder<T>::log(z)) + exponent * F::ln2_low);
}

// ln(2^-k x) for positive normal x; anything else is the caller's to avoid.
template <class T>
VFE_HD T log_scaled(T x, int k) {
  const LogParts<T> parts = log_parts(x);
  return log_of_parts(parts.exponent - static_cast<T>(k), (parts.reduced - T(1)) / (parts.reduced + T(1)));
}

template <class T>
VFE_HD T log(T x) {
  return log_scaled(x, 0);
}

// 1 / (1 + e^-x), relative accuracy kept in both tails.
template <class T>
VFE_HD T sigmoid(T x) {
  const T e = exp(-magnitude(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), one formula for all x.
template <class T>
VFE_HD T softplus(T x) {
  return (x > T(0) ? x : T(0)) + log1p_unit(exp(-magnitude(x)));
}

// x coth(x / 2) - 2, which is x^2 / 6 near 0, and its derivative.
VFE_HD double coth_excess(double x) {
  constexpr double c[] = {0.16666666666666665,    -0.0027777777777771013,  6.6137566131971253e-5,
                          -1.6534391354486331e-6, 4.1753484515730622e-8,   -1.0568102108265737e-9,
                          2.6748987382521009e-11, -6.7211987699685858e-13, 1.587544396570351e-14,
                          -2.6691027150746631e-16};
  const double size = magnitude(x), e = exp(-size), z = x * x;
  const double near = z * polynomial(c, z), far = size * ((1.0 + e) / (1.0 - e)) - 2.0;
  return size < 2.0 ? near : far;
}
VFE_HD double coth_excess_slope(double x) {
  constexpr double c[] = {0.33333333333333333,     -0.011111111111110658,  0.00039682539682085265,
                          -1.322751320971449e-5,   4.1753510392005195e-7,  -1.2682014107684092e-8,
                          3.7467986872619288e-10,  -1.083211222815747e-11, 3.0448695240759373e-13,
                          -7.7898253011946778e-15, 1.3497738371274928e-16};
  const double size = magnitude(x), e = exp(-size), z = x * x;
  const double beyond = ((1.0 - e * e) - 2.0 * (size * e)) / ((1.0 - e) * (1.0 - e));
  const double near = x * polynomial(c, z), minus_beyond = -beyond, far = x < 0.0 ? minus_beyond : beyond;
  return size < 2.0 ? near : far;
}

// A sum of e^x_k kept as e^reference times a double. The reference follows the largest term with
// slack, so rescaling is rare and the order of additions is the order of the calls.
struct LogSumExp {
  double reference = -std::numeric_limits<double>::infinity();
  double sum = 0.0;

  static constexpr double slack = 200.0;

  // The factor by which everything accumulated so far must be multiplied before e^x is added.
  VFE_HD double make_room(double x) {
    if (x <= reference + slack) return 1.0;
    const double factor = exp(reference - x);  // 0 the first time
    reference = x;
    sum *= factor;
    return factor;
  }
  VFE_HD double value() const { return reference + log(sum); }
};

}  // namespace vfe::numerics::inline VFE_LEVEL
