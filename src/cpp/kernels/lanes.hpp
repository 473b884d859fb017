// Random words and normal numbers of sixteen consecutive blocks at once: what the widest vectors take.
//
// Philox multiplies 32-bit words to 64 bits. Here each word has a 64-bit lane to itself, whose upper half may hold
// anything: the product reads lower halves alone, and gives both halves where the next round wants them, so a round is
// two products, two shifts and two exclusive ors, without moving a word from lane to lane.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../numerics/normal.hpp"
#include "vectors.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

constexpr std::uint32_t block_lanes = 16;

using WideWords = Vector<std::uint64_t>;

// The products of the lower halves.
VFE_HD void multiply_words(const WideWords& a, const WideWords& b, WideWords& product) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  // Without a mask, gcc 12 warns of a value that is not set.
  product = reinterpret_cast<WideWords>(
      _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  product = reinterpret_cast<WideWords>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  product = reinterpret_cast<WideWords>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  product = (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

// words[16 k + lane] is word k of philox4x32 of the counter whose first word is first + lane.
VFE_HD void draw_lanes(numerics::Words4 first, numerics::Key key, std::uint32_t* __restrict words) {
  constexpr std::uint32_t width = sizeof(WideWords) / 8;
  constexpr std::uint32_t together = width < 4 ? 2 : 16 / width;  // vectors that hide each other's latency
  WideWords lanes;
  for (std::uint32_t l = 0; l < width; ++l) lanes[l] = l;
  const WideWords m0 = WideWords{} + 0xD2511F53u, m1 = WideWords{} + 0xCD9E8D57u;
  for (std::uint32_t done = 0; done < block_lanes; done += together * width) {
    WideWords c0[together], c1[together], c2[together], c3[together];
    VFE_UNROLL
    for (std::uint32_t v = 0; v < together; ++v) {
      c0[v] = lanes + (std::uint64_t{first.word[0]} + done + v * width);
      c1[v] = WideWords{} + first.word[1];
      c2[v] = WideWords{} + first.word[2];
      c3[v] = WideWords{} + first.word[3];
    }
    numerics::Key round_key = key;
    VFE_UNROLL
    for (int round = 0; round < 10; ++round) {
      VFE_UNROLL
      for (std::uint32_t v = 0; v < together; ++v) {
        WideWords p0, p1;
        multiply_words(c0[v], m0, p0);
        multiply_words(c2[v], m1, p1);
        c0[v] = (p1 >> 32) ^ c1[v] ^ round_key.low;
        c2[v] = (p0 >> 32) ^ c3[v] ^ round_key.high;
        c1[v] = p1;
        c3[v] = p0;
      }
      round_key.low += 0x9E3779B9u;
      round_key.high += 0xBB67AE85u;
    }
    VFE_UNROLL
    for (std::uint32_t v = 0; v < together; ++v) {
      std::uint32_t* out = words + done + v * width;
      for (std::uint32_t l = 0; l < width; ++l) {
        out[l] = static_cast<std::uint32_t>(c0[v][l]);
        out[block_lanes + l] = static_cast<std::uint32_t>(c1[v][l]);
        out[2 * block_lanes + l] = static_cast<std::uint32_t>(c2[v][l]);
        out[3 * block_lanes + l] = static_cast<std::uint32_t>(c3[v][l]);
      }
    }
  }
}

constexpr std::int64_t group_words = 4 * block_lanes;
// Groups of sixteen blocks that are drawn before they become numbers: every loop runs at its own pace then, and words
// stay in the cache.
constexpr std::int64_t groups_together = 16;

// The normal numbers of up to groups_together groups of blocks: number k of a block is normals[16 k + lane] of its
// group. All radii come first: a loop over them has many in flight, where radius and turn after one another would make
// a chain of operations that the processor cannot look beyond.
VFE_HD void normal_lanes(const std::uint32_t* __restrict words, float* __restrict normals, std::int64_t n_groups = 1) {
  alignas(64) float radius[groups_together * 2 * block_lanes];
  for (std::int64_t half = 0; half < 2 * n_groups; ++half) {
    for (std::int64_t lane = 0; lane < block_lanes; ++lane) {
      radius[half * block_lanes + lane] = numerics::normal_radius(words[2 * half * block_lanes + lane]);
    }
  }
  for (std::int64_t half = 0; half < 2 * n_groups; ++half, words += 2 * block_lanes, normals += 2 * block_lanes) {
    for (std::int64_t lane = 0; lane < block_lanes; ++lane) {
      const auto pair = numerics::normal_turn(radius[half * block_lanes + lane], words[block_lanes + lane]);
      normals[lane] = pair.first;
      normals[block_lanes + lane] = pair.second;
    }
  }
}
VFE_HD void normal_lanes(const std::uint32_t* __restrict words, double* __restrict normals, std::int64_t n_groups = 1) {
  alignas(64) double radius[groups_together * block_lanes];
  for (std::int64_t g = 0; g < n_groups; ++g) {
    for (std::int64_t lane = 0; lane < block_lanes; ++lane) {
      const std::uint32_t* of = words + g * group_words + lane;
      radius[g * block_lanes + lane] = numerics::normal_radius(of[0], of[block_lanes]);
    }
  }
  for (std::int64_t g = 0; g < n_groups; ++g, words += group_words, normals += 2 * block_lanes) {
    for (std::int64_t lane = 0; lane < block_lanes; ++lane) {
      const auto pair = numerics::normal_turn(radius[g * block_lanes + lane], words[2 * block_lanes + lane],
                                              words[3 * block_lanes + lane]);
      normals[lane] = pair.first;
      normals[block_lanes + lane] = pair.second;
    }
  }
}

}  // namespace vfe::kernels::inline VFE_LEVEL
