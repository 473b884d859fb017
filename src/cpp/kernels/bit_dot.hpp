// The inner product of a bit vector and real numbers, in float64: a table of the sums of each four numbers.
#pragma once

#include "bit_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {

struct BitDot {
  std::int64_t n_words;           // of a state
  runtime::Buffer<double> table;  // (16 n_words, 16)

  template <class T>
  BitDot(const T* numbers, std::int64_t count)
      : n_words(words_for(count)), table(n_words * word_bits / group_inputs * 16) {
    for (std::int64_t g = 0; g < n_words * word_bits / group_inputs; ++g) {
      for (std::int64_t m = 0; m < 16; ++m) {
        double sum = 0;
        for (std::int64_t i = 0; i < group_inputs; ++i) {
          const std::int64_t unit = g * group_inputs + i;
          if (unit < count && (m >> i & 1) != 0) sum += static_cast<double>(numbers[unit]);
        }
        table[g * 16 + m] = sum;
      }
    }
  }

  VFE_HD double with(const States& states, std::int64_t s) const {
    constexpr std::int64_t groups = word_bits / group_inputs;
    double sums[4] = {};
    const double* of_word = table.data();
    for (std::int64_t w = 0; w < n_words; ++w, of_word += groups * 16) {
      const std::uint64_t bits = states.word(s, w);
      VFE_UNROLL
      for (std::int64_t g = 0; g < groups; ++g) sums[g % 4] += of_word[g * 16 + ((bits >> (4 * g)) & 15)];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

}  // namespace vfe::kernels::inline VFE_LEVEL
