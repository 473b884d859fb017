#include "layer.hpp"

#include <vector>

namespace vfe::cuda {

void Layer::find_largest() {
  std::vector<double> of_outputs(static_cast<std::size_t>(n_out));
  copy(of_outputs.data(), unit.data(), of_outputs.size() * sizeof(double));
  wait();
  for (const double of_output : of_outputs) {
    const double size = 0x1p30 * of_output;
    largest = size > largest ? size : largest;
  }
}

}  // namespace vfe::cuda
