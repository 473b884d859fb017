// Block Gibbs sampling of an RBM with real visible units, E = sum_i (v_i - a_i)^2 / 2 sigma_i^2 - b.h - sum_ij v_i W_ij
// h_j / sigma_i^2 (K. Cho, A. Ilin, T. Raiko, ICANN 2011):
//
//   n_steps times:  h_j ~ Bernoulli(sigmoid(beta (b_j + sum_i v_i W_ij / sigma_i^2)))
//                   v_i ~ Normal(a_i + sum_j W_ij h_j, sigma_i^2 / beta), clamped ones as they were
//
// Shapes: hidden states are packed bits as in gibbs.hpp; visible ones are numbers of the model's dtype T, chain first.
//
// Precision: all in T, eps = 2^-24 or 2^-53. The field of h_j is b_j plus the sum over v_i times 1 / (sigma_i sigma_i),
// three roundings, in the order of real_layer.hpp: error <= (133 + n_visible / 128) eps (|b_j| + sum_i |v_i W_ij| /
// sigma_i^2), typically a tenth of that for 784 units. Times beta it becomes a float32 (relative 2^-23), and is decided
// as in gibbs.hpp. The mean of v_i is a_i plus the sum of W_ij in the order of bit_layer.hpp: error <= (n_hidden / 16 +
// 6) eps (|a_i| + sum_j |W_ij|); the noise is sigma_i times 1 / sqrt(beta), rounded to T, times a normal number of
// numerics/normal.hpp, which says where its tail ends.
//
// Randomness: hidden units as in gibbs.hpp. Visible unit u of chain c in step t takes normal number (u / 16) % k of
// block 16 (u / (16 k)) + u % 16, k = 4 for float32 and 2 for float64: those of philox4x32({block, c, t, stream}).
//
// The same bits for any num_threads, any cut of the chains into calls, any instruction set. A twin must round as said:
// no fused operations, 128 inputs of a real sum one after the other and then the sum of each such block, set bits four
// by four as bit_layer.hpp adds them, biases last, sigma_i * spread before the noise.
#pragma once

#include "gibbs.hpp"

namespace vfe::kernels {

struct GaussianGibbsArgs : SweepArgs {
  const void* sigma;      // (n_visible,) of the model's dtype
  const void* start;      // (n_chains, n_visible): visible states to begin with, finite
  void* visible;          // (n_chains, n_visible): out
  std::uint64_t* hidden;  // (n_chains, words of n_hidden): out; what `visible` was drawn from
  bool* overflowed;       // out: whether a field or a state was no finite number; the states mean nothing then
};

inline void check_sigma(const RbmView& rbm, const void* sigma) {
  const auto check_numbers = [&]<class T>(const T* numbers) {
    for (std::int64_t i = 0; i < rbm.n_visible; ++i) {
      const T precision = T(1) / (numbers[i] * numbers[i]);
      if (numbers[i] > 0 && precision > 0 && precision <= std::numeric_limits<T>::max()) continue;
      throw ArgumentError("sigma: expected numbers > 0 whose 1 / sigma^2 is a number, got others");
    }
  };
  rbm.real == Real::float32 ? check_numbers(static_cast<const float*>(sigma))
                            : check_numbers(static_cast<const double*>(sigma));
}

inline void check(const GaussianGibbsArgs& args) {
  check_sweep(args);
  check_sigma(args.rbm, args.sigma);
  for (std::int64_t k = 0; k < args.n_betas; ++k) {
    if (args.beta[k] < 0x1p-100) throw ArgumentError("beta: expected beta >= 2^-100 for real units, got a smaller one");
  }
}

}  // namespace vfe::kernels
