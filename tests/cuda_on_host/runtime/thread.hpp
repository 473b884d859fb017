// In place of src/cuda/runtime/thread.hpp: the same operations, lane by lane.
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>

#define VFE_DEVICE [[gnu::always_inline]] inline

namespace vfe::cuda {

constexpr int warp_size = 32;

VFE_DEVICE double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }

class Thread {
  // All lanes show x; each makes what it wants of it; nobody shows the next before all have looked.
  template <class T, class Look>
  auto exchange(const T& x, const char* where, const Look& look) const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= host::show_bytes);
    std::memcpy(host::shown_by(lane()), &x, sizeof x);
    host::meet_warp(where);
    const auto found = look([](int lane) {
      T shown;
      std::memcpy(&shown, host::shown_by(lane), sizeof shown);
      return shown;
    });
    host::meet_warp(where);
    return found;
  }

 public:
  Thread() : block_(host::block()), n_blocks_(host::n_blocks()), index_(host::thread()) {}

  std::int64_t block() const { return block_; }
  std::int64_t n_blocks() const { return n_blocks_; }
  int index() const { return index_; }
  int lane() const { return index() % warp_size; }
  int warp() const { return index() / warp_size; }

  template <class Shared>
  Shared& shared() const {
    return *static_cast<Shared*>(host::shared_memory(sizeof(Shared)));
  }

  void barrier() const { host::meet_block("barrier"); }
  void warp_barrier() const { host::meet_warp("warp_barrier"); }

  template <class T>
  T shuffle(T x, int from) const {
    return exchange(x, "shuffle", [&](auto of_lane) { return of_lane(from % warp_size); });
  }
  template <class T>
  T shuffle_xor(T x, int mask) const {
    return exchange(x, "shuffle_xor", [&](auto of_lane) { return of_lane((lane() ^ mask) % warp_size); });
  }
  std::uint32_t ballot(bool x) const {
    return exchange(x, "ballot", [&](auto of_lane) {
      std::uint32_t bits = 0;
      for (int lane = 0; lane < warp_size; ++lane) bits |= std::uint32_t{of_lane(lane)} << lane;
      return bits;
    });
  }

  template <bool b_signed>
  void multiply_bytes(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) const {
    struct Fragments {
      std::uint32_t a[4], b[2];
    };
    const Fragments own{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    exchange(own, b_signed ? "multiply_bytes<true>" : "multiply_bytes<false>", [&](auto of_lane) {
      for (int r = 0; r < 4; ++r) {
        const int row = lane() / 4 + r / 2 * 8, column = lane() % 4 * 2 + r % 2;
        auto sum = static_cast<std::uint32_t>(c[r]);  // wraps
        for (int k = 0; k < 32; k += 4) {
          const std::uint32_t in_row = of_lane(row % 8 * 4 + k % 16 / 4).a[row / 8 + k / 16 * 2];
          const std::uint32_t in_column = of_lane(column * 4 + k % 16 / 4).b[k / 16];
          for (int bit = 0; bit < 32; bit += 8) {
            const std::uint32_t byte = in_column >> bit & 0xFF, sign = b_signed ? byte >> 7 : 0;
            sum += (in_row >> bit & 0xFF) * (byte - (sign << 8));
          }
        }
        c[r] = static_cast<std::int32_t>(sum);
      }
      return 0;
    });
  }

  void multiply_doubles(double (&c)[2], double a, double b) const {
    struct Fragments {
      double a, b;
    };
    exchange(Fragments{a, b}, "multiply_doubles", [&](auto of_lane) {
      const int row = lane() / 4;
      for (int r = 0; r < 2; ++r) {
        const int column = lane() % 4 * 2 + r;
        for (int k = 0; k < 4; ++k) {
          c[r] = __builtin_fma(of_lane(row * 4 + k).a, of_lane(column * 4 + k).b, c[r]);
        }
      }
      return 0;
    });
  }

 private:
  std::int64_t block_, n_blocks_;
  int index_;
};

}  // namespace vfe::cuda
