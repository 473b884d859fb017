// A matrix product whose result depends on nothing but the numbers:
//
//   x_sj = b_j + sum_i a_si w_ij
//
// in the dtype of all, summed in the order of real_layer.hpp: error <= (129 + n / 128) eps (|b_j| + sum_i |a_si w_ij|)
// for n inputs, eps = 2^-24 or 2^-53. The same bits for any num_threads and instruction set; a BLAS promises neither,
// and its threads go on spinning where the kernels' run.
#pragma once

#include "rbm.hpp"

namespace vfe::kernels {

struct ProductArgs {
  Real real;
  std::int64_t n_rows, n_inputs, w_rows, n_columns;
  const void* a;  // (n_rows, n_inputs)
  std::int64_t a_row_stride, a_column_stride;
  const void* w;                               // (w_rows = n_inputs, n_columns)
  std::int64_t w_row_stride, w_column_stride;  // one of them is 1
  const void* b;                               // (n_columns,), or null for 0
  void* x;                                     // (n_rows, n_columns), row by row: out
  int num_threads;
};

inline void check(const ProductArgs& args) {
  if (args.w_rows != args.n_inputs) {
    throw ArgumentError("w: expected (n_inputs, n_columns) = (" + std::to_string(args.n_inputs) + ", ...), got (" +
                        std::to_string(args.w_rows) + ", " + std::to_string(args.n_columns) + ")");
  }
  if (args.w_row_stride != 1 && args.w_column_stride != 1) {
    throw ArgumentError("w: expected an array that is contiguous along one axis");
  }
}

}  // namespace vfe::kernels
