// The formulas of kernels/reparam.hpp for a single number, as both twins compute them. A law says:
//
//   prepare(p)           the scale of the noise, and the term of the KL (without kl_constant)
//   draw(p, ...)         the sample and the term of log q (without log_q_constant)
//   gather(p, ...)       what a sample adds to the derivative by mu, and that times the noise
//   finish(p, ...)       the derivatives, from the sums of those over samples
//
// `prior`: whether there is one. `bounded`: only for |log_var| < parts_bound, where it gives the same bits faster.
#pragma once

#include "noise.hpp"
#include "normal.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

// --- noise ----------------------------------------------------------------------------------------

struct NormalNumber {};  // made in pairs: see normal.hpp
struct Exponential {
  template <class... Words>
  VFE_HD static auto of(Words... words) {
    return exponential(words...);
  }
};
struct LaplaceNumber {
  template <class... Words>
  VFE_HD static auto of(Words... words) {
    return laplace(words...);
  }
};
struct LogisticNumber {
  template <class... Words>
  VFE_HD static auto of(Words... words) {
    return logistic(words...);
  }
};

// --- products of what may be infinite -------------------------------------------------------------

// a b, where 0 times infinity is 0.
template <class T>
VFE_HD T product(T a, T b) {
  const T found = a * b, of_a = a == T(0) ? T(0) : found;
  return b == T(0) ? T(0) : of_a;
}

// The same where a alone may be infinite.
template <class T>
VFE_HD T times(T a, T b) {
  const T found = a * b;
  return b == T(0) ? T(0) : found;
}

// --- the families whose latents are numbers of their own ------------------------------------------

template <class T>
struct Parameters {
  T mu, log_var, prior_mean, prior_log_var;  // 0 where there is none
};
template <class W>
struct Prepared {
  W scale, kl;
};
template <class T, class W>
struct Drawn {
  T sample;
  W log_q;
};
template <class W>
struct ByMu {
  W plain, with_noise;
};
template <class T>
struct Gradient {
  T mu, log_var;
};

// What gaussian, laplace and logistic share.
template <class T, class Shape>
struct LocationScale {
  using Element = T;
  using Wide = T;  // what it is computed in
  using Number = typename Shape::Number;
  static constexpr Stream stream = Shape::stream;
  static constexpr bool relaxed = false, samples_move_log_q = false, gains_by_bounds = true;
  static constexpr double kl_constant = Shape::lost_entropy;
  VFE_HD static double log_q_constant(double) { return Shape::log_density_constant; }

  // Of one latent: s, e^x - 1 and e^x - 1 - x for x = log_var - w + c, and the distance of mu from m, over e^(w / 2).
  struct Numbers {
    T scale, growth, excess, distance, unit;  // unit: e^-(w / 2)
  };
  template <bool prior, bool bounded>
  VFE_HD static Numbers numbers(const Parameters<T>& p) {
    const auto parts = exp_parts<bounded>(T(0.5) * p.log_var);
    if constexpr (!prior && Shape::log_variance == 0) {
      return {parts.value, parts.growth, parts.excess, p.mu, T(1)};
    } else {
      const T x = (prior ? p.log_var - p.prior_log_var : p.log_var) + T(Shape::log_variance);
      const auto of_kl = exp_parts<bounded>(T(0.5) * x);
      if constexpr (!prior) return {parts.value, of_kl.growth, of_kl.excess, p.mu, T(1)};
      const T unit = exp_parts<bounded>(T(-0.5) * p.prior_log_var).value;
      return {parts.value, of_kl.growth, of_kl.excess, product(p.mu - p.prior_mean, unit), unit};
    }
  }

  template <bool prior, bool bounded>
  VFE_HD static Prepared<T> prepare(const Parameters<T>& p) {
    const Numbers of = numbers<prior, bounded>(p);
    return {of.scale, T(0.5) * of.distance * of.distance + T(0.5) * of.excess};
  }
  VFE_HD static Drawn<T, T> draw(const Parameters<T>& p, T scale, T noise, double) {
    return {p.mu + times(scale, noise), T(-0.5) * (Shape::surprise(noise) + p.log_var)};
  }
  VFE_HD static ByMu<T> gather(const Parameters<T>&, T, T noise, T grad_sample, T, double) {
    return {grad_sample, grad_sample * noise};
  }
  template <bool prior, bool bounded>
  VFE_HD static Gradient<T> finish(const Parameters<T>& p, T plain, T with_noise, T grad_kl, T grad_log_q) {
    const Numbers of = numbers<prior, bounded>(p);
    const T by_mu = prior ? product(of.distance, of.unit) : of.distance;
    const T of_sample = times(of.scale, with_noise), of_kl = times(of.growth, grad_kl);
    const T sum = of_sample + of_kl;  // of two infinities the variance outgrows the scale
    return {plain + times(by_mu, grad_kl), T(0.5) * ((sum == sum ? sum : of_kl) - grad_log_q)};
  }
};

template <class T>
struct GaussianShape {
  using Number = NormalNumber;
  static constexpr Stream stream = Stream::reparam_gaussian;
  static constexpr double log_variance = 0, lost_entropy = 0, log_density_constant = normal_log_density_constant;
  VFE_HD static T surprise(T eps) { return eps * eps; }  // -2 ln density, but for a constant
};
template <class T>
struct LaplaceShape {
  using Number = LaplaceNumber;
  static constexpr Stream stream = Stream::reparam_laplace;
  static constexpr double log_variance = 0.6931471805599453, lost_entropy = 0.072364942924700087;
  static constexpr double log_density_constant = -0.6931471805599453;
  VFE_HD static T surprise(T eps) { return T(2) * magnitude(eps); }
};
template <class T>
struct LogisticShape {
  using Number = LogisticNumber;
  static constexpr Stream stream = Stream::reparam_logistic;
  static constexpr double log_variance = 1.1908474830306907, lost_entropy = 0.01436227472001807;
  static constexpr double log_density_constant = 0;
  VFE_HD static T surprise(T eps) {
    const T size = magnitude(eps);
    return T(2) * size + T(4) * log1p_unit(exp_negative(-size));
  }
};

template <class T>
using Gaussian = LocationScale<T, GaussianShape<T>>;
template <class T>
using Laplace = LocationScale<T, LaplaceShape<T>>;
template <class T>
using Logistic = LocationScale<T, LogisticShape<T>>;

// z = e^y, y = mu + s eps. In float64, since e^y has the absolute error of y as a relative one.
template <class T>
struct LogNormal {
  using Element = T;
  using Wide = double;
  using Number = NormalNumber;
  static constexpr Stream stream = Stream::reparam_log_normal;
  static constexpr bool relaxed = false, samples_move_log_q = true, gains_by_bounds = false;
  static constexpr double kl_constant = -0.5;
  VFE_HD static double log_q_constant(double) { return normal_log_density_constant; }

  // Of z over e^(w / 2), what the prior measures it by: where one is not finite, the other need not be.
  struct Moments {
    double v, mean, off, var, moved;  // s^2, E z, E z - m, Var z, (E z)^2 e^v
  };
  template <bool prior>
  VFE_HD static Moments moments(const Parameters<T>& p) {
    const double v = exp(static_cast<double>(p.log_var));
    const double half = prior ? 0.5 * static_cast<double>(p.prior_log_var) : 0.0;
    const double mu = static_cast<double>(p.mu) - half;
    const double mean = exp(mu + 0.5 * v);
    // m_1^2 (e^v - 1), or e^(2 mu + 2v) (1 - e^-v), where neither factor can vanish while the other is infinite.
    const bool small = v < 1.0;
    const double half_sum = mu + 0.5 * v, sum = mu + v, minus_v = -v;
    const double growth = expm1(small ? v : minus_v), minus_growth = -growth;
    const double var = product(exp(2.0 * (small ? half_sum : sum)), small ? growth : minus_growth);
    const double moved = exp(2.0 * sum);
    if constexpr (prior) {
      const double minus_half = -half, prior_mean = static_cast<double>(p.prior_mean);
      const double off = mean - product(exp(minus_half), prior_mean);
      return {v, mean, off != off && prior_mean == prior_mean ? mean : off, var, moved};  // of two infinities
    }
    return {v, mean, mean, var, moved};
  }

  VFE_HD static double scale_of(const Parameters<T>& p) { return exp(0.5 * static_cast<double>(p.log_var)); }

  template <bool prior, bool bounded>
  VFE_HD static Prepared<double> prepare(const Parameters<T>& p) {
    const Moments m = moments<prior>(p);
    const double log_var = static_cast<double>(p.log_var);
    const double x = prior ? log_var - static_cast<double>(p.prior_log_var) : log_var;
    return {scale_of(p), 0.5 * ((m.off * m.off + m.var) - x) - static_cast<double>(p.mu)};
  }
  VFE_HD static Drawn<T, double> draw(const Parameters<T>& p, double scale, T noise, double) {
    const double eps = static_cast<double>(noise);
    const double y = static_cast<double>(p.mu) + product(scale, eps);
    return {static_cast<T>(exp(y)), -0.5 * (eps * eps + static_cast<double>(p.log_var)) - y};
  }
  VFE_HD static ByMu<double> gather(const Parameters<T>& p, double scale, T noise, T grad_sample, T grad_log_q,
                                    double) {
    const double eps = static_cast<double>(noise);
    const double z = exp(static_cast<double>(p.mu) + product(scale, eps));
    const double by_y = product(static_cast<double>(grad_sample), z) - static_cast<double>(grad_log_q);
    return {by_y, product(by_y, eps)};
  }
  template <bool prior, bool bounded>
  VFE_HD static Gradient<T> finish(const Parameters<T>& p, double plain, double with_noise, double grad_kl,
                                   double grad_log_q) {
    const Moments m = moments<prior>(p);
    const double by_mean = product(m.off, m.mean) + m.var;
    const double by_mu = by_mean - 1.0;
    const double by_log_var = product(m.v, by_mean + m.moved) - 1.0;
    const double of_sample = product(scale_of(p), with_noise), of_kl = product(grad_kl, by_log_var);
    const double sum = of_sample + of_kl;
    return {static_cast<T>(plain + product(grad_kl, by_mu)),
            static_cast<T>(0.5 * ((sum == sum ? sum : of_kl) - grad_log_q))};
  }
};

// z = sigmoid(y), y = (mu + eps) / temperature; in float64 like e^y.
template <class T>
struct Concrete {
  using Element = T;
  using Wide = double;
  using Number = LogisticNumber;
  static constexpr Stream stream = Stream::reparam_concrete;
  static constexpr bool relaxed = true, samples_move_log_q = true, gains_by_bounds = false;
  static constexpr double kl_constant = 0;
  VFE_HD static double log_q_constant(double temperature) { return log(temperature); }

  template <bool prior>
  VFE_HD static double apart(const Parameters<T>& p) {
    const double mu = static_cast<double>(p.mu);
    if constexpr (prior) return mu - static_cast<double>(p.prior_mean);
    return mu;
  }

  // |y|, e^-|y|, and whether y is negative.
  struct Odds {
    double size, e;
    bool negative;
  };
  VFE_HD static Odds odds(T mu, T noise, double temperature) {
    const double y = (static_cast<double>(mu) + static_cast<double>(noise)) / temperature;
    const double size = magnitude(y);
    return {size, exp(-size), y < 0.0};
  }

  template <bool prior, bool bounded>
  VFE_HD static Prepared<double> prepare(const Parameters<T>& p) {
    return {1.0, coth_excess(apart<prior>(p))};
  }
  VFE_HD static Drawn<T, double> draw(const Parameters<T>& p, double, T noise, double temperature) {
    const Odds at = odds(p.mu, noise, temperature);
    const double of_larger = at.negative ? at.e : 1.0;
    const double eps = magnitude(static_cast<double>(noise));
    const double of_noise = eps + 2.0 * log1p_unit(exp(-eps));
    return {static_cast<T>(of_larger / (1.0 + at.e)), (at.size + 2.0 * log1p_unit(at.e)) - of_noise};
  }
  VFE_HD static ByMu<double> gather(const Parameters<T>& p, double, T noise, T grad_sample, T grad_log_q,
                                    double temperature) {
    const Odds at = odds(p.mu, noise, temperature);
    const double slope = at.e / ((1.0 + at.e) * (1.0 + at.e)), tanh_half = (1.0 - at.e) / (1.0 + at.e);
    const double by_y = static_cast<double>(grad_sample) * slope +
                        static_cast<double>(grad_log_q) * (at.negative ? -tanh_half : tanh_half);
    return {by_y / temperature, 0.0};
  }
  template <bool prior, bool bounded>
  VFE_HD static Gradient<T> finish(const Parameters<T>& p, double plain, double, double grad_kl, double) {
    return {static_cast<T>(plain + grad_kl * coth_excess_slope(apart<prior>(p))), T(0)};
  }
};

// --- a latent of several categories ---------------------------------------------------------------

// Of log q of k categories: ln (k - 1)! + (k - 1) ln temperature.
VFE_HD double gumbel_log_q_constant(std::int64_t k, double temperature) {
  double log_factorial = 0;
  if (k > 256) {
    const double x = static_cast<double>(k);
    log_factorial = (x - 0.5) * log(x) - x + 0.9189385332046727 + (1.0 - 1.0 / (30.0 * x * x)) / (12.0 * x);
  } else {
    for (std::int64_t j = 2; j < k; ++j) log_factorial += log(static_cast<double>(j));
  }
  return log_factorial + static_cast<double>(k - 1) * log(temperature);
}

}  // namespace vfe::numerics::inline VFE_LEVEL
