// One update of stochastic gradient ascent, of weights (n_rows, n_columns) or of biases (one row):
//
//   g_ij = gradient_ij - mu_i dh_j - dv_i la_j - decay x_ij,          mu, la the offsets of a centered gradient
//   u'   = momentum u + rate g,               x' = x + u'                            (momentum)
//   u'   = momentum u + (1 - momentum) g,     s' = memory s + (1 - memory) g^2,
//                                             x' = x + rate u' / (sqrt(s') + epsilon)       (Adam)
//
// Adam's corrections of the first updates are the caller's, in rate and epsilon (D. Kingma, J. Ba, ICLR 2015, end of
// section 2). Of a centered gradient also sum_j g_ij la_j and sum_i mu_i g_ij without decay, by which the biases'
// gradients differ (J. Melchior, A. Fischer, L. Wiskott, JMLR 17 (2016) 1).
//
// Precision: each operation rounds once in the dtype of x, in the order written; sums are
// made in a fixed order. The same bits for any num_threads and instruction set.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

struct AscendArgs {
  Real real;
  std::int64_t n_rows, n_columns;
  const void *x, *gradient;                // (n_rows, n_columns)
  const void *velocity, *squares;          // the same: u, null for 0; s, null without Adam
  const void *row_offset, *column_offset;  // (n_rows,) and (n_columns,): mu and la; null if not centered
  const void *row_change, *column_change;  // (n_rows,) and (n_columns,): dv and dh
  double rate, momentum, decay, memory, epsilon;
  void *new_x, *new_velocity, *new_squares;  // (n_rows, n_columns): out; those of null inputs may be null
  void *row_sums, *column_sums;              // (n_rows,) and (n_columns,): out, of a centered gradient
  int num_threads;
};

inline void check(const AscendArgs&) {}

}  // namespace vfe::kernels
