// Sums over samples of binary units times real numbers, the averages that a gradient is made of:
//
//   sums_ij = sum_n s_ni x_nj,   counts_i = sum_n s_ni
//
// Precision: in the dtype of x, 64 samples at a time in a fixed order: error <= (n_samples / 64 + 6) eps sum_n |x_nj|,
// eps = 2^-24 or 2^-53; the same bits for any num_threads and instruction set.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

struct PairSumsArgs {
  Real real;
  std::int64_t n_samples, n_units, n_columns;
  const std::uint64_t* states;  // (n_samples, words of n_units): packed
  const void* values;           // (n_samples, n_columns): x
  void* sums;                   // (n_units, n_columns) of the dtype of x: out
  std::int64_t* counts;         // (n_units,): out
  int num_threads;
};

inline void check(const PairSumsArgs&) {}

}  // namespace vfe::kernels
