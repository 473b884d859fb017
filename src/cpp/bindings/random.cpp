#include <pybind11/stl.h>

#include <array>

#include "../numerics/bernoulli.hpp"
#include "../numerics/normal.hpp"
#include "device_arrays.hpp"
#include "kernels.hpp"

namespace vfe::bindings {
namespace {

using Four = std::array<std::uint32_t, 4>;

}  // namespace

void bind_random(py::module_& module) {
  const auto bind = [&]<class T>(const char* name, kernels::Draws draws, T, const char* doc) {
    module.def(
        name,
        [draws](const std::vector<py::ssize_t>& shape, std::uint64_t seed, int num_threads, bool cuda) {
          const py::dtype dtype = py::dtype::of<T>();
          py::array_t<T> out = cuda ? new_device_array(dtype, shape) : new_array(dtype, shape);
          run(&runtime::KernelTable::random,
              {draws, seed, out.size(), out.mutable_data(), runtime::checked_threads(num_threads)}, device_of(cuda));
          return out;
        },
        py::arg("shape"), py::arg("seed"), py::arg("num_threads") = 0, py::arg("cuda") = false, doc);
  };
  bind("random_words", kernels::Draws::words, std::uint32_t{}, "32-bit random words.");
  bind("uniform_float32", kernels::Draws::uniform_float32, float{}, "Uniform numbers in (0, 1), 23 random bits each.");
  bind("uniform_float64", kernels::Draws::uniform_float64, double{}, "Uniform numbers in (0, 1), 52 random bits each.");
  bind("normal_float32", kernels::Draws::normal_float32, float{}, "Standard normal numbers.");
  bind("normal_float64", kernels::Draws::normal_float64, double{}, "Standard normal numbers.");

  // Single draws, for the tests of the generator and of the decision.
  module.def(
      "philox4x32",
      [](const Four& counter, std::uint64_t key) {
        const auto drawn =
            numerics::philox4x32({{counter[0], counter[1], counter[2], counter[3]}}, numerics::key_from(key));
        return Four{drawn.word[0], drawn.word[1], drawn.word[2], drawn.word[3]};
      },
      py::arg("counter"), py::arg("key"), "One block of Philox4x32-10.");
  module.def(
      "normal_pair",
      [](const Four& words) {
        const auto z = numerics::normal_pair(words[0], words[1], words[2], words[3]);
        return std::array{z.first, z.second};
      },
      py::arg("words"), "Two normal numbers of float64 from four words.");
  module.def(
      "normal_pair_float32",
      [](std::uint32_t first, std::uint32_t second) {
        const auto z = numerics::normal_pair(first, second);
        return std::array{z.first, z.second};
      },
      py::arg("first"), py::arg("second"), "Two normal numbers of float32 from two words.");
  module.def(
      "bernoulli",
      [](float x, std::uint32_t leading, std::uint64_t further) {
        return numerics::bernoulli(x, numerics::leading_bits(leading, 0), [&] {
          return numerics::Words4{{static_cast<std::uint32_t>(further >> 32), static_cast<std::uint32_t>(further)}};
        });
      },
      py::arg("x"), py::arg("leading"), py::arg("further"),
      "The decision of the Gibbs kernel, P(True) = sigmoid(x), from 16 random bits and, if they tie, 64 more.");
}

}  // namespace vfe::bindings
