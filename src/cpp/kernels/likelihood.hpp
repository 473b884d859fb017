// ln p(x | z) of independent units with means in [0, 1], given the logits l that a decoder makes of each sample:
//
//   ln p = sum_i x_i l_i - ln(1 + e^l_i),     its gradient by l_i, times that of what it goes into: g (x_i -
//   sigmoid(l_i))
//
// Precision: ln p in the dtype of the logits, |error| <= eps (|ln p| + (70 + n_units / 512) sum_i (|x_i l_i| + |l_i| +
// 1)), eps = 2^-24 or 2^-53; of the gradient 6 eps |g|. e^-|l| below e^-87 (float32) or e^-700 counts as 0. The same
// bits for any num_threads and instruction set.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

struct LikelihoodArgs {
  Real real;
  std::int64_t n_samples, n_rows, n_units;
  const void* logits;  // (n_samples, n_rows, n_units)
  const void* x;       // (n_rows, n_units)
  void* log_prob;      // (n_samples, n_rows): out, or null
  const void* grad;    // (n_samples, n_rows): g, if the next is not null
  void* grad_logits;   // as the logits: out, or null
  int num_threads;
};

inline void check(const LikelihoodArgs&) {}

}  // namespace vfe::kernels
