// What sampling of real visible units shares: the weights into each layer, and normal numbers by tiles.
#pragma once

#include "gibbs_sweep.hpp"
#include "real_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

// The weights into each layer, prepared once for any number of calls with the same weights.
template <class T>
struct GaussianSweep {
  BitLayer<T> to_hidden, to_visible;

  GaussianSweep(const RbmView& rbm, int num_threads)
      : to_hidden(rbm.n_visible, rbm.n_hidden), to_visible(rbm.n_hidden, rbm.n_visible) {
    const auto same = [](T value, std::int64_t) { return value; };
    const double n_weights = static_cast<double>(rbm.n_visible) * static_cast<double>(rbm.n_hidden);
    runtime::parallel_for(to_hidden.n_strips + to_visible.n_strips, 2 * n_weights, num_threads, [&](std::int64_t task) {
      task < to_hidden.n_strips ? fill_strip<T>(to_hidden, rbm, task, same)
                                : fill_strip<T>(to_visible, rbm.transposed(), task - to_hidden.n_strips, same);
    });
    for (const BitLayer<T>* layer : {&to_hidden, &to_visible}) {
      for (std::int64_t j = 0; j < layer->n_strips * strip_width<T>; ++j) layer->bias[j] = T(0);
    }
  }

  static const GaussianSweep& of(runtime::Cache& cache, const RbmView& rbm, int num_threads) {
    static constexpr char key = 0;
    struct Given {
      const RbmView& rbm;
      int num_threads;
    };
    const auto make = [](const void* context) -> void* {
      const auto& given = *static_cast<const Given*>(context);
      return new GaussianSweep(given.rbm, given.num_threads);
    };
    const auto destroy = [](void* sweep) { delete static_cast<GaussianSweep*>(sweep); };
    const Given given{rbm, num_threads};
    return *static_cast<const GaussianSweep*>(cache.of_weights().find_or_make(&key, make, destroy, &given));
  }
};

// Standard normal numbers for the units of one tile, numbered as gaussian_gibbs.hpp says.
template <class T>
VFE_HD void tile_normals(const Draw& draw, Stream stream, std::int64_t tile, T (&normals)[tile_width]) {
  constexpr std::int64_t drawn = numerics::block_normals<T> * block_lanes;
  for (std::int64_t k = 0; k < tile_width; k += drawn) {
    const auto block = static_cast<std::uint32_t>((tile * tile_width + k) / numerics::block_normals<T>);
    std::uint32_t words[4 * block_lanes];
    T some[drawn];
    draw_lanes(numerics::draw_counter(block, draw.chain, draw.step, stream), draw.key, words);
    normal_lanes(words, some);
    for (std::int64_t l = 0; l < drawn; ++l) normals[k + l] = some[l];
  }
}

// Numbers of all units, and zeros behind them.
template <class T>
void pad(const T* values, std::int64_t n, std::int64_t padded, const runtime::Buffer<T>& to) {
  for (std::int64_t i = 0; i < padded; ++i) to[i] = i < n ? values[i] : T(0);
}

}  // namespace vfe::kernels::inline VFE_LEVEL
