// numerics/ as nvcc's host compiler makes it, for tests/test_numerics_nvcc.py: the functions it can call over arrays.
#include "../../src/cpp/kernels/elementwise.cpp"
#include "../../src/cpp/numerics/bernoulli.hpp"
#include "../../src/cpp/numerics/fixed_point.hpp"
#include "../../src/cpp/numerics/noise.hpp"
#include "../../src/cpp/numerics/normal.hpp"
#include "../../src/cpp/numerics/philox.hpp"
#include "../../src/cpp/numerics/uniform.hpp"

#define VFE_TESTED extern "C" __attribute__((visibility("default")))

using namespace vfe;

VFE_TESTED void elementwise(int function, bool wide, std::int64_t size, const void* x, void* y) {
  const kernels::Real real = wide ? kernels::Real::float64 : kernels::Real::float32;
  kernels::elementwise({real, static_cast<kernels::Function>(function), size, x, y, 1});
}

// Rows of four words: a counter, whose block replaces it.
VFE_TESTED void philox(std::int64_t size, std::uint64_t key, std::uint32_t* rows) {
  for (std::int64_t k = 0; k < size; ++k, rows += 4) {
    const numerics::Words4 block =
        numerics::philox4x32({{rows[0], rows[1], rows[2], rows[3]}}, numerics::key_from(key));
    for (int i = 0; i < 4; ++i) rows[i] = block.word[i];
  }
}

// Rows of four words to rows of eight: normal pair, exponential, Laplace, logistic, uniform in float64 (of the first
// two words), and the pair in float32 (of the first and the last).
VFE_TESTED void draws(std::int64_t size, const std::uint32_t* rows, double* out) {
  for (std::int64_t k = 0; k < size; ++k, rows += 4, out += 8) {
    const numerics::NormalPair<double> wide = numerics::normal_pair(rows[0], rows[1], rows[2], rows[3]);
    const numerics::NormalPair<float> single = numerics::normal_pair(rows[0], rows[3]);
    out[0] = wide.first, out[1] = wide.second;
    out[2] = numerics::exponential(rows[0], rows[1]);
    out[3] = numerics::laplace(rows[0], rows[1]);
    out[4] = numerics::logistic(rows[0], rows[1]);
    out[5] = numerics::uniform_double(rows[0], rows[1]);
    out[6] = static_cast<double>(single.first), out[7] = static_cast<double>(single.second);
  }
}

// A word a row: exponential, Laplace, logistic, uniform.
VFE_TESTED void draws_float32(std::int64_t size, const std::uint32_t* words, float* out) {
  for (std::int64_t k = 0; k < size; ++k, ++words, out += 4) {
    out[0] = numerics::exponential(*words);
    out[1] = numerics::laplace(*words);
    out[2] = numerics::logistic(*words);
    out[3] = numerics::uniform_float(*words);
  }
}

VFE_TESTED void bernoulli(std::int64_t size, const float* x, const std::uint32_t* leading, const std::uint64_t* further,
                          std::uint8_t* out) {
  for (std::int64_t k = 0; k < size; ++k) {
    out[k] = numerics::bernoulli(x[k], numerics::leading_bits(leading[k], 0), [&] {
      return numerics::Words4{
          {static_cast<std::uint32_t>(further[k] >> 32), static_cast<std::uint32_t>(further[k]), 0, 0}};
    });
  }
}

// The scale of numbers whose sizes add up to `total`, and the numbers in fixed point.
VFE_TESTED double fixed_point(std::int64_t size, double total, const double* x, std::int32_t* out) {
  const double scale = numerics::fixed_point_scale(total, size);
  for (std::int64_t k = 0; k < size; ++k) out[k] = numerics::to_fixed_point(x[k], scale);
  return scale;
}
