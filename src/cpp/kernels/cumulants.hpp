// Cumulants kappa_1 ... kappa_order of rows of numbers, with standard errors, from one reading of them.
//
//   kappa_r = d^r/dt^r ln <e^(t x)> at t = 0,   biased: <.> is the (weighted) mean; unbiased: E[estimate] = kappa_r
//   stderr: the block jackknife, leaving out each of n_blocks runs of neighbors in turn (F. Busing, E. Meijer,
//           R. van der Leeden, Statistics and Computing 9 (1999) 3, for blocks of unequal size), times
//           1 + kappa / (6 n_blocks), the kurtosis of its pseudo-values (P. Hall, Annals of Statistics 16 (1988) 927)
//
// Shapes: row (i_0, ..., i_(n_dims-1)) has its element k at data + sum_d i_d strides[d] + k stride bytes; rows are
// counted with the last index fastest. Weights, if any, are float64 and laid out alike, with strides of their own (0 to
// repeat).
//
// Instead of data there may be `sums`: for each row and block a center and the sums of (x - center)^q about it,
// q = 0 ... `width`, times weights to the power 1, ..., n_powers. They can be asked for, too, and joined: that is what
// streams and parts of data are made of.
//
// Method: x is read in panels that stay in the first-level cache, once for their mean and once for their power sums
// about it (7 multiplications and 9 additions a number at order 8); panels are joined by moving their centers (P.
// Pebay, Sandia report SAND2008-6212, in its sums without divisions). Those of a long row without weights are read
// once, about the mean of the first numbers, while that lies within half a standard deviation of a panel's own. The
// mean may be far from zero.
//
// Precision: all in float64. Error of a cumulant of order r: <= 1e-12 of the largest c_t prod <|x - mean|^p> of its
// terms (numerics/cumulants.hpp) for n up to 1e8; of a weighted unbiased one, over r! [y^r z^0] G / (sum w)^r, the
// chance that r draws by weight are distinct. An order whose powers leave the range of float64 is NaN or infinite, as
// is a row with an infinite number or a NaN in it. Blocks of sums are joined in their order, numbers of a block in one
// that depends on n and on the strides alone: the same bits for any num_threads and instruction set.
//
// The CUDA twin keeps this bound, not these bits: its lanes read numbers once, about centers near the mean of what they
// have seen, with fused operations. Its sums are in an order of their own, which depends on n, the blocks and the
// strides alone. Of rows in host memory it moves the extent they lie in, or, if that were more than twice as much, the
// numbers alone.
#pragma once

#include <string>

#include "../numerics/cumulants.hpp"
#include "../runtime/errors.hpp"
#include "rbm.hpp"

namespace vfe::kernels {

constexpr std::int64_t small_width = 4, large_width = numerics::most_cumulants;  // powers that sums go up to

// The sums of `order` orders go up to the power:
constexpr std::int64_t sums_width(std::int64_t order) { return order <= small_width ? small_width : large_width; }
// Powers of weights that are summed, and numbers for each row and block.
constexpr std::int64_t weight_powers(std::int64_t width, bool weighted, bool unbiased) {
  return weighted && unbiased ? width : 1;
}
constexpr std::int64_t sums_size(std::int64_t width, std::int64_t powers) { return 1 + powers * (width + 1); }

struct Strided {
  const void* data;
  const std::int64_t* strides;  // (n_dims,), in bytes
  std::int64_t stride;          // in bytes
};

struct CumulantsArgs {
  Real real;
  std::int64_t n_dims;
  const std::int64_t* shape;  // (n_dims,) of the rows
  std::int64_t n_rows, n;     // product of `shape`, numbers a row
  Strided data, weights;      // data.data is null if there are sums; weights.data if there are no weights
  std::int64_t order;         // 1 to 8
  bool weighted, unbiased;
  std::int64_t n_blocks;
  const double* counts;  // (n_blocks,): numbers in each
  double* sums;          // (n_rows, n_blocks, sums_size): in without data; else out, null if not wanted
  double* values;        // (n_rows, order): out, null if not wanted
  double* errors;        // (n_rows, order): out, null if not wanted
  double* replicates;    // (n_blocks, n_rows, order), estimates without each block: out, null if not wanted
  bool* bad_weights;     // out: whether a weight is negative or no finite number; results mean nothing then
  int num_threads;
};

inline void check(const CumulantsArgs& args) {
  const auto got = [](std::int64_t value) { return ", got " + std::to_string(value); };
  if (args.order < 1 || args.order > large_width) {
    throw ArgumentError("order: expected 1 <= order <= 8" + got(args.order));
  }
  if (args.n_blocks < 1) throw ArgumentError("n_blocks: expected n_blocks >= 1" + got(args.n_blocks));
  double n = 0;
  for (std::int64_t k = 0; k < args.n_blocks; ++k) {
    if (!(args.counts[k] >= 1)) throw ArgumentError("counts: expected blocks of at least one number");
    n += args.counts[k];
  }
  if (args.data.data != nullptr && n != static_cast<double>(args.n)) {
    throw ArgumentError("counts: expected them to add up to n = " + std::to_string(args.n));
  }
}

}  // namespace vfe::kernels
