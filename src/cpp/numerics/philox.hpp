// Philox4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC'11, doi:10.1145/2063384.2063405. Four words are a pure function of a counter and a key, so a
// draw depends on what it is for and never on who computes it.
#pragma once

#include "config.hpp"
#include "streams.hpp"

namespace vfe::numerics::inline VFE_LEVEL {

struct Words4 {
  std::uint32_t word[4];
};

struct Key {
  std::uint32_t low, high;
};

VFE_HD Key key_from(std::uint64_t seed) {
  return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

VFE_HD Words4 philox4x32(Words4 counter, Key key) {
  std::uint32_t c0 = counter.word[0], c1 = counter.word[1];
  std::uint32_t c2 = counter.word[2], c3 = counter.word[3];
  VFE_UNROLL
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ key.low;
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ key.high;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The counter of every draw in the package: (unit block, chain, step, stream). The step has 56 bits:
// the 24 above the low word share a word with the 8 bits of the stream.
VFE_HD Words4 draw_counter(std::uint32_t block, std::uint32_t chain, std::uint64_t step, Stream stream) {
  return {{block, chain, static_cast<std::uint32_t>(step),
           static_cast<std::uint32_t>(stream) | static_cast<std::uint32_t>((step >> 32) << 8)}};
}

constexpr std::uint64_t max_step = (std::uint64_t{1} << 56) - 1;

}  // namespace vfe::numerics::inline VFE_LEVEL
