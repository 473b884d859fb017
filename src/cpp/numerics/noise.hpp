// Exponential, Laplace and logistic random numbers from random words, by inverting their distribution functions.
//
// A number starts from t, the middle of a cell of (0, 1/2), and from bits of its own that say which half, or which
// sign, is meant; t is rounded to T, so it keeps its relative precision near 0, where the tails are:
//
//   exponential  -ln u, u = t or 1 - t     31 bits (double: 62): from 2^-33 to 33 ln 2 = 22.9 (2^-64, 44.4)
//   Laplace      +- exponential            30 bits (61): |x| from 2^-32 to 32 ln 2 = 22.2 (2^-63, 43.7)
//   logistic     +- ln((1 - t) / t)        31 bits (62): |x| to 22.9 (44.4)
//   Gumbel       -ln(exponential)          from -ln 22.9 = -3.1 to 33 ln 2 = 22.9 (-3.8, 44.4)
//
// Errors given t: docs/reparameterize.md.
#pragma once

#include "elementary.hpp"
#include "philox.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// T with `above` = t 2^bits, and two bits that nothing else uses.
template <class T>
struct HalfUniform {
  T above;
  std::uint32_t first, second;  // 0 or not
};

// The two bits cost one of t; a number that needs one alone takes that.
template <int bits>
VFE_HD HalfUniform<float> half_uniform(std::uint32_t word) {
  return {static_cast<float>(static_cast<std::int32_t>(word >> bits)) + 0.5f, word & 1, word & 2};
}
template <int bits>
VFE_HD HalfUniform<double> half_uniform(std::uint32_t w0, std::uint32_t w1) {
  const auto wide = [](std::uint32_t word) { return static_cast<double>(static_cast<std::int32_t>(word)); };
  return {wide(w0 >> bits) + (wide(w1 >> 1) + 0.5) * 0x1p-31, w0 & 1, w0 & 2};
}

// -ln t, or -ln(1 - t) if `complement`, for 0 < t <= 1/2.
template <class T>
VFE_HD T minus_log_half(T t, bool complement) {
  const LogParts<T> parts = log_parts(complement ? T(1) - t : t);
  // What 1 - t has lost by rounding is still there in t: reduced is 1 - t or 2 (1 - t).
  const T minus_t = -t, one_less = T(1) - T(2) * t, of_t = parts.reduced - T(1);
  const T of_rest = parts.exponent == T(0) ? minus_t : one_less;
  const T beyond_one = complement ? of_rest : of_t;
  return -log_of_parts(parts.exponent, beyond_one / (parts.reduced + T(1)));
}

// ln((1 - t) / t) = -e ln 2 + 2 atanh((1 - t - m) / (1 - t + m)) for t = m 2^e, 0 < t <= 1/2; from 1/3 on
// 2 atanh(1 - 2t), where 1 - 2t is exact.
template <class T>
VFE_HD T log_odds_half(T t) {
  using F = Format<T>;
  const LogParts<T> parts = log_parts(t);
  const T rest = T(1) - t, far = (rest - parts.reduced) / (rest + parts.reduced), near = T(1) - T(2) * t;
  const bool is_near = t >= T(0.33333334);
  const T exponent = is_near ? T(0) : parts.exponent, s = is_near ? near : far;
  const T z = s * s;
  return (T(2) * (s + s * z * Remainder<T>::log1p(z)) - exponent * F::ln2_low) - exponent * F::ln2_high;
}

template <class T>
VFE_HD T exponential_of(const HalfUniform<T>& half) {
  return minus_log_half(scale_down(half.above, 32), half.first != 0);
}
template <class T>
VFE_HD T laplace_of(const HalfUniform<T>& half) {
  const T size = minus_log_half(scale_down(half.above, 31), half.first != 0);
  return half.second != 0 ? -size : size;
}
template <class T>
VFE_HD T logistic_of(const HalfUniform<T>& half) {
  const T size = log_odds_half(scale_down(half.above, 32));
  return half.first != 0 ? -size : size;
}

VFE_HD float exponential(std::uint32_t word) { return exponential_of(half_uniform<1>(word)); }
VFE_HD float laplace(std::uint32_t word) { return laplace_of(half_uniform<2>(word)); }
VFE_HD float logistic(std::uint32_t word) { return logistic_of(half_uniform<1>(word)); }
VFE_HD double exponential(std::uint32_t w0, std::uint32_t w1) { return exponential_of(half_uniform<1>(w0, w1)); }
VFE_HD double laplace(std::uint32_t w0, std::uint32_t w1) { return laplace_of(half_uniform<2>(w0, w1)); }
VFE_HD double logistic(std::uint32_t w0, std::uint32_t w1) { return logistic_of(half_uniform<1>(w0, w1)); }

}  // namespace vfe::numerics::inline VFE_LEVEL
