// Compiles numerics/ for the device, so that what both twins share stays fit for both.
#include "../../cpp/numerics/bernoulli.hpp"
#include "../../cpp/numerics/cumulants.hpp"
#include "../../cpp/numerics/fixed_point.hpp"
#include "../../cpp/numerics/ising.hpp"
#include "../../cpp/numerics/noise.hpp"
#include "../../cpp/numerics/normal.hpp"
#include "../../cpp/numerics/philox.hpp"
#include "../../cpp/numerics/uniform.hpp"

namespace vfe::cuda {
namespace {

template <class T>
__device__ T everything(T x) {
  using namespace numerics;
  LogSumExp sum;
  sum.make_room(static_cast<double>(x));
  return exp(x) + expm1(x) + exp_excess(x) + exp_negative(x) + log(x) + log1p_unit(x) + sigmoid(x) + softplus(x) +
         static_cast<T>(sum.value());
}

__device__ double cumulants(double x, const numerics::CumulantCoefficients& coefficients) {
  using namespace numerics;
  PowerSums<8, 1, double> sums;
  PowerSums<4, 4, double> weighted;
  sums.clear();
  weighted.clear();
  sums.join(sums);
  weighted.move_to(x);
  double found[8], of_weighted[4], terms[SeriesTerms<4, double>::count];
  cumulants_of_moments<8>(sums.of[0], coefficients, found);
  weighted_cumulants<4>(weighted.of, SeriesTerms<4, double>{terms}, of_weighted);
  return found[7] + of_weighted[3];
}

}  // namespace

__global__ void numerics_check(float* single, double* wide, std::uint64_t seed,
                               numerics::CumulantCoefficients coefficients) {
  using namespace numerics;
  const Words4 words = philox4x32(draw_counter(threadIdx.x, blockIdx.x, 0, Stream::uniform), key_from(seed));
  const bool on = bernoulli(static_cast<float>(threadIdx.x), leading_bits(words.word[1], 1), [&] { return words; });
  const NormalPair<float> pair = normal_pair(words.word[0], words.word[1]);
  const float noise = exponential(words.word[0]) + laplace(words.word[1]) + logistic(words.word[2]);
  const double wide_noise = exponential(words.word[0], words.word[1]) + laplace(words.word[1], words.word[2]) +
                            logistic(words.word[2], words.word[3]) + coth_excess(wide[0]) + coth_excess_slope(wide[0]);
  const NormalPair<double> wide_pair = normal_pair(words.word[0], words.word[1], words.word[2], words.word[3]);
  single[threadIdx.x] = everything(single[threadIdx.x]) + static_cast<float>(on) + pair.first + pair.second + noise;
  wide[threadIdx.x] = everything(wide[threadIdx.x]) + wide_pair.first + wide_pair.second + wide_noise +
                      uniform_double(words.word[0], words.word[3]) + cumulants(wide[threadIdx.x], coefficients) +
                      to_fixed_point(wide[threadIdx.x], fixed_point_scale(1.0, 1));
}

}  // namespace vfe::cuda
