// The weights into a layer in fixed point, on the device; the law and its precision: cpp/kernels/gibbs.hpp.
#pragma once

#include <runtime/launch.hpp>

#include "../cpp/kernels/rbm.hpp"
#include "../cpp/numerics/fixed_point.hpp"

namespace vfe::cuda {

constexpr std::int64_t tile_units = 64;  // of a word of states

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A matrix that is contiguous along its inputs, or along its outputs.
template <class T>
struct WeightsView {
  const T* weights;
  std::int64_t n_in, n_out, in_stride, out_stride;
  bool along_inputs;
  VFE_DEVICE double size(std::int64_t in, std::int64_t out) const {
    return static_cast<double>(numerics::magnitude(weights[in * in_stride + out * out_stride]));
  }
};

// Total of |weights| into each output, in the order of Rounding in cpp/kernels/gibbs_sweep.hpp, and what follows of it:
// along contiguous inputs 16 lanes, across them blocks of 32. A thread for each output.
template <class T>
struct FindScales {
  static constexpr int n_threads = 128, lanes = 16, block_inputs = 32;
  WeightsView<T> view;
  double *scale, *unit;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t out = thread.block() * n_threads + thread.index();
    if (out >= view.n_out) return;
    const double total = view.along_inputs ? along(out) : across(out);
    scale[out] = numerics::fixed_point_scale(total, view.n_in);
    unit[out] = total > 0 ? 1.0 / scale[out] : 0.0;
  }
  VFE_DEVICE double along(std::int64_t out) const {
    double of_lanes[lanes] = {}, sum = 0;
    std::int64_t in = 0;
    for (; in + lanes <= view.n_in; in += lanes) {
      VFE_UNROLL
      for (int l = 0; l < lanes; ++l) of_lanes[l] += view.size(in + l, out);
    }
    for (; in < view.n_in; ++in) sum += view.size(in, out);
    VFE_UNROLL
    for (int l = 0; l < lanes; ++l) sum += of_lanes[l];
    return sum;
  }
  VFE_DEVICE double across(std::int64_t out) const {
    double sum = 0;
    for (std::int64_t first = 0; first < view.n_in; first += block_inputs) {
      double of_block = 0;
      for (std::int64_t in = first; in < first + block_inputs && in < view.n_in; ++in) of_block += view.size(in, out);
      sum += of_block;
    }
    return sum;
  }
};

// How the integer weights lie.
enum class Form {
  rows,      // (n_in, whole tiles): one 32-bit number each
  fragments  // bytes, as the matrix unit takes them: see byte_place
};

// Where the bytes of the weight into output `out` are: those of 32 inputs and 8 outputs are a fragment b of
// Thread::multiply_bytes for each of the four bytes, least first. Two of them are side by side, so that a lane reads 16
// bytes at once. A tile's outputs 16 q + 8 half + column, q = 0 ... 3, share Philox blocks, so they go to one warp:
//   (chunk of 32 inputs, tile, half, q, pair of bytes, lane, byte of the pair, register, byte of it)
VFE_HD std::int64_t byte_place(std::int64_t in, std::int64_t out, int byte, std::int64_t n_tiles) {
  const std::int64_t tile = out / 64, half = out / 8 % 2, q = out / 16 % 4, column = out % 8;
  const std::int64_t chunk = in / 32, row = in % 32, lane = column * 4 + row % 16 / 4;
  const std::int64_t pair = (((chunk * n_tiles + tile) * 2 + half) * 4 + q) * 2 + byte / 2;
  return ((pair * 32 + lane) * 2 + byte % 2) * 8 + row / 16 * 4 + row % 4;
}

template <class T, Form form>
struct Round {
  static constexpr int n_threads = 256;
  WeightsView<T> view;
  std::int64_t n_inputs, n_tiles;  // of the memory, whose padding is set to 0
  const double* scale;
  std::uint8_t* to;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * n_threads + thread.index(), width = n_tiles * tile_units;
    const std::int64_t in = k / width, out = k % width;
    if (in >= n_inputs) return;
    std::int32_t rounded = 0;
    if (in < view.n_in && out < view.n_out) {
      const double weight = static_cast<double>(view.weights[in * view.in_stride + out * view.out_stride]);
      rounded = numerics::to_fixed_point(weight, scale[out]);
    }
    if constexpr (form == Form::rows) {
      reinterpret_cast<std::int32_t*>(to)[k] = rounded;
    } else {
      const auto bits = static_cast<std::uint32_t>(rounded);
      VFE_UNROLL
      for (int byte = 0; byte < 4; ++byte) {
        to[byte_place(in, out, byte, n_tiles)] = static_cast<std::uint8_t>(bits >> (8 * byte));
      }
    }
  }
};

struct Layer {
  std::int64_t n_in, n_out, n_tiles;
  DeviceBuffer<std::uint8_t> weights;  // in one of the forms
  DeviceBuffer<double> unit;           // (n_out,): what a sum is to be multiplied with
  double largest = 0;                  // no sum of weights is beyond it

  template <Form form, class T>
  static Layer of(const WeightsView<T>& view) {
    Layer layer{view.n_in, view.n_out, ceil_div(view.n_out, tile_units), {}, DeviceBuffer<double>(view.n_out)};
    const std::int64_t n_inputs = form == Form::rows ? view.n_in : ceil_div(view.n_in, 32) * 32;
    const std::int64_t n_weights = n_inputs * layer.n_tiles * tile_units;
    layer.weights = DeviceBuffer<std::uint8_t>(4 * n_weights);
    const DeviceBuffer<double> scale(view.n_out);
    using Scales = FindScales<T>;
    using Rounds = Round<T, form>;
    launch(Scales{view, scale.data(), layer.unit.data()}, ceil_div(view.n_out, Scales::n_threads));
    launch(Rounds{view, n_inputs, layer.n_tiles, scale.data(), layer.weights.data()},
           ceil_div(n_weights, Rounds::n_threads));
    layer.find_largest();
    return layer;
  }

 private:
  void find_largest();
};

// The weights of both directions.
struct Layers {
  Layer to_hidden, to_visible;

  template <Form form, class T>
  static Layers of(const kernels::RbmView& rbm) {
    const std::int64_t n_visible = rbm.n_visible, n_hidden = rbm.n_hidden;
    const std::int64_t size = (n_visible - 1) * rbm.visible_stride + (n_hidden - 1) * rbm.hidden_stride + 1;
    const Input<T> weights(static_cast<const T*>(rbm.weights), size);
    const bool by_row = rbm.hidden_stride == 1;
    return {Layer::of<form, T>({weights.data(), n_visible, n_hidden, rbm.visible_stride, rbm.hidden_stride, !by_row}),
            Layer::of<form, T>({weights.data(), n_hidden, n_visible, rbm.hidden_stride, rbm.visible_stride, by_row})};
  }
};

}  // namespace vfe::cuda
