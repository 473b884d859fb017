// Samples z that are functions of their parameters and of noise, with KL(q || p), log q(z) and their derivatives.
//
//   gaussian        z = mu + s eps            s = e^(log_var / 2) in all of the first four
//   laplace         the same, eps of density e^-|eps| / 2: the variance is 2 s^2
//   logistic        the same, eps of density e^-eps / (1 + e^-eps)^2: pi^2 s^2 / 3
//   log_normal      z = e^(mu + s eps)
//   concrete        z = sigmoid((mu + eps) / temperature), eps logistic: a relaxed Bernoulli unit of logit mu
//   gumbel_softmax  z_i = e^y_i, y = log_softmax((mu + g) / temperature), g_i Gumbel: a relaxed choice of n_categories
//
// (D. Kingma, M. Welling 2013; C. Maddison, A. Mnih, Y. W. Teh 2017 and E. Jang, S. Gu, B. Poole 2017 for the last
// two.)
//
// Shapes: mu, log_var and all that has the shape of a sample: (n_rows, n_latents, n_categories), where n_categories is
// 1 but for gumbel_softmax; log_var is null for the last two. The prior has that shape, too, or that of a row
// (prior_stride 0). Samples add a first axis, n_samples.
//
// log_q is the sum over latents of the log density of z, as computed from the noise: finite where z has been rounded to
// the edge of its domain. (gumbel_softmax: with respect to z_1 ... z_(n_categories - 1).)
//
// KL is summed over latents. The prior of the first four is normal, N(m, e^w), by default N(0, 1). With x = log_var -
// w:
//   gaussian, laplace, logistic   ((mu - m)^2 e^-w + e^(x + c) - 1 - (x + c)) / 2 + n,   c = ln(Var z / s^2): 0, ln 2,
//                                 ln(pi^2 / 3);  n = entropy of a normal number of the same variance, minus that of z:
//                                 0, ln(pi e) / 2 - 1, (1 + ln(2 pi^3 / 3)) / 2 - 2
//   log_normal                    -mu - (x + 1) / 2 + ((m_1 - m)^2 + m_2) e^-w / 2,  m_1 = E z = e^(mu + v / 2),
//                                 m_2 = Var z = m_1^2 (e^v - 1),  v = s^2
// That of the relaxed families has the same temperature and logits m, by default 0:
//   concrete        a coth(a / 2) - 2,  a = mu - m  (that of two logistic laws)
//   gumbel_softmax  the mean over samples of log q - log p = k ln sum_i e^-(a_i + g_i) - k ln sum_i e^-g_i + sum_i a_i
//
// Backward: sums over samples, with the same noise, of the derivatives of
//   sum z grad_sample + sum KL grad_kl + sum log_q grad_log_q + sum log_prior grad_log_prior
// Of gaussian, laplace and logistic, `drawn` may hold the samples: then s eps is z - mu, which is off by an ulp of z,
// and no noise is drawn again. log_prior, the sum over latents of ln N(z; 0, 1), is for these families without a prior
// alone, backward for calls with samples.
//
// Noise of sample s and flat element e of the sheet (the element's own place plus row_offset rows): with n = 4 numbers
// a block (float64: 2) it is number (e / 16) % n of block b = 16 (e / 16n) + e % 16, of philox4x32({low word of b, high
// word of b, s, stream of the family}), made by numerics/normal.hpp or noise.hpp, which say where the tails end. So it
// depends neither on num_threads nor on how a batch is cut.
//
// Precision: gaussian, laplace, logistic in T; the others in float64 but for the noise. z of the first three is within
// 4 units in the last place of |mu| + |s eps|, given the noise. Sums over latents are in float64, in 16 lanes of
// columns (4 up to 127 latents), sums over several samples in float64. All terms of the KL are >= 0 but for those of
// log_normal and gumbel_softmax: it keeps its relative accuracy where it vanishes. Overflow gives the infinity that is
// the limit. The formulas are numerics/families.hpp's, and both twins add in the same order: the same bits.
#pragma once

#include "../numerics/philox.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

enum class Family { gaussian, laplace, logistic, log_normal, concrete, gumbel_softmax };

constexpr bool is_relaxed(Family family) { return family == Family::concrete || family == Family::gumbel_softmax; }
constexpr bool is_location_scale(Family family) {
  return family == Family::gaussian || family == Family::laplace || family == Family::logistic;
}

struct ReparamArgs {
  Real real;
  Family family;
  std::int64_t n_samples, n_rows, n_latents, n_categories;
  const void *mu, *log_var;
  const void *prior_mean, *prior_log_var;  // null: the default; prior_log_var is null for relaxed families
  std::int64_t prior_stride;               // elements from row to row: 0, or those of a row
  double temperature;
  std::uint64_t seed;
  std::int64_t row_offset;
  // Forward, if there is a place for samples; else backward.
  void* sample;
  void* kl;                                        // (n_rows,)
  void* log_q;                                     // (n_samples, n_rows)
  void* log_prior;                                 // (n_samples, n_rows), or null
  const void *grad_sample, *grad_kl, *grad_log_q;  // null: zero
  const void* drawn;                               // (n_samples, n_rows, n_latents), or null
  const void* grad_log_prior;                      // (n_samples, n_rows); null: zero
  void *grad_mu, *grad_log_var;
  bool* not_finite;  // out: whether some KL, log_q or gradient is no finite number
  int num_threads;
};

inline void check(const ReparamArgs& args) {
  const auto expect = [](bool good, const char* what, std::int64_t got) {
    if (!good) throw ArgumentError(what + (", got " + std::to_string(got)));
  };
  expect(args.n_samples >= 1, "n_samples: expected n_samples >= 1", args.n_samples);
  expect(args.row_offset >= 0, "row_offset: expected row_offset >= 0", args.row_offset);
  const double rows = static_cast<double>(args.row_offset) + static_cast<double>(args.n_rows);
  const double elements = rows * static_cast<double>(args.n_latents) * static_cast<double>(args.n_categories);
  expect(elements < 0x1p62, "row_offset: expected fewer than 2^62 elements up to the last row", args.row_offset);
  if (args.drawn != nullptr && !is_location_scale(args.family)) {
    throw ArgumentError("sample: expected none but of the families gaussian, laplace, logistic");
  }
  if (args.log_prior != nullptr && (!is_location_scale(args.family) || args.prior_mean != nullptr)) {
    throw ArgumentError("log_prior: expected none but of the families gaussian, laplace, logistic without a prior");
  }
  if (args.grad_log_prior != nullptr && (args.drawn == nullptr || args.prior_mean != nullptr)) {
    throw ArgumentError("grad_log_prior: expected none but with samples, and without a prior");
  }
  if (is_relaxed(args.family) && !(args.temperature >= 0x1p-20 && args.temperature <= 0x1p20)) {
    char got[32];
    std::snprintf(got, sizeof got, "%g", args.temperature);
    throw ArgumentError(std::string("temperature: expected 2^-20 <= temperature <= 2^20, got ") + got);
  }
}

}  // namespace vfe::kernels
