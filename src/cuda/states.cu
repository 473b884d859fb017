// States of 0s and 1s on the device: to packed words, 64 units each, and to bytes.
#include <runtime/launch.hpp>

#include "cuda.hpp"

namespace vfe::cuda {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A warp packs 32 units of one state.
template <class T>
struct Pack {
  static constexpr int n_threads = 256, n_warps = n_threads / warp_size;
  States states;
  std::int64_t n_halves;  // of a state's words
  std::uint32_t* halves;
  std::int32_t* bad;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * n_warps + thread.warp(), state = k / n_halves, half = k % n_halves;
    if (state >= states.n_states) return;
    const std::int64_t unit = half * warp_size + thread.lane();
    T value = T(0);
    if (unit < states.n_units) {
      const auto* row = static_cast<const unsigned char*>(states.data) + state * states.state_stride;
      value = *reinterpret_cast<const T*>(row + unit * states.unit_stride);
    }
    if (!(value == T(0) || value == T(1))) *bad = 1;
    const std::uint32_t bits = thread.ballot(value == T(1));
    if (thread.lane() == 0) halves[k] = bits;
  }
};

struct Unpack {
  static constexpr int n_threads = 256;
  const std::uint64_t* words;
  std::int64_t n_words, n_units, size;
  std::uint8_t* states;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * n_threads + thread.index();
    if (k >= size) return;
    const std::int64_t state = k / n_units, unit = k % n_units;
    states[k] = static_cast<std::uint8_t>(words[state * n_words + unit / 64] >> (unit % 64) & 1);
  }
};

template <class T>
bool pack_as(const States& states, std::uint64_t* words) {
  const std::int64_t n_halves = 2 * ceil_div(states.n_units, 64);
  const DeviceBuffer<std::int32_t> bad(1);
  std::int32_t found = 0;
  copy(bad.data(), &found, sizeof found);
  launch(Pack<T>{states, n_halves, reinterpret_cast<std::uint32_t*>(words), bad.data()},
         ceil_div(states.n_states * n_halves, Pack<T>::n_warps));
  copy(&found, bad.data(), sizeof found);
  wait();
  return found == 0;
}

}  // namespace

bool pack(const States& states, std::uint64_t* words) {
  switch (states.type) {
    case StateType::bits8:
      return pack_as<std::uint8_t>(states, words);
    case StateType::bits16:
      return pack_as<std::uint16_t>(states, words);
    case StateType::bits32:
      return pack_as<std::uint32_t>(states, words);
    case StateType::bits64:
      return pack_as<std::uint64_t>(states, words);
    case StateType::float32:
      return pack_as<float>(states, words);
    case StateType::float64:
      return pack_as<double>(states, words);
  }
  return false;
}

void unpack(const std::uint64_t* words, std::int64_t n_states, std::int64_t n_units, std::uint8_t* states) {
  const std::int64_t size = n_states * n_units;
  launch(Unpack{words, ceil_div(n_units, 64), n_units, size, states}, ceil_div(size, Unpack::n_threads));
}

}  // namespace vfe::cuda
