#include "product.hpp"

#include "../runtime/threads.hpp"
#include "bit_pairs.hpp"
#include "real_layer.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t block_rows = 128;

template <class T>
void run(const ProductArgs& args) {
  constexpr std::int64_t full = strip_width<T>;
  const runtime::Buffer<T> zeros(args.b == nullptr ? args.n_columns : 0);
  for (std::int64_t j = 0; j < (args.b == nullptr ? args.n_columns : 0); ++j) zeros[j] = 0;
  const RbmView view{args.real,     args.w,         nullptr,           args.b == nullptr ? zeros.data() : args.b,
                     args.n_inputs, args.n_columns, args.w_row_stride, args.w_column_stride};
  const BitLayer<T> layer(args.n_inputs, args.n_columns);
  const std::int64_t n_blocks = ceil_div(args.n_rows, block_rows);
  const double rows = static_cast<double>(args.n_rows), columns = static_cast<double>(args.n_columns);
  const double nanoseconds = static_cast<double>(args.n_inputs) * columns * (1.0 + rows / 16.0);
  const std::int64_t most = n_blocks * layer.n_tiles > layer.n_strips ? n_blocks * layer.n_tiles : layer.n_strips;
  runtime::parallel_team(runtime::threads_worth(nanoseconds, args.num_threads), most, [&](runtime::Member& member) {
    for (std::int64_t strip; (strip = member.next(layer.n_strips)) >= 0;) {
      fill_strip<T>(layer, view, strip, [](T value, std::int64_t) { return value; });
    }
    const runtime::Buffer<T> sums(block_rows * tile_width);
    for (std::int64_t task; (task = member.next(n_blocks * layer.n_tiles)) >= 0;) {
      runtime::check_interrupt();
      const std::int64_t first = task % n_blocks * block_rows, tile = task / n_blocks;
      const std::int64_t n = args.n_rows - first < block_rows ? args.n_rows - first : block_rows;
      find_products(
          layer, tile,
          {static_cast<const T*>(args.a) + first * args.a_row_stride, n, args.a_row_stride, args.a_column_stride},
          sums.data());
      for (std::int64_t k = 0; k < tile_width / full; ++k) {
        const std::int64_t strip = tile * (tile_width / full) + k;
        if (strip >= layer.n_strips) break;
        for (std::int64_t s = 0; s < n; ++s) {
          copy_strip(sums.data() + (k * n + s) * full,
                     static_cast<T*>(args.x) + (first + s) * args.n_columns + strip * full, layer.width_of(strip));
        }
      }
    }
  });
}

}  // namespace

void product(const ProductArgs& args) { args.real == Real::float32 ? run<float>(args) : run<double>(args); }

}  // namespace vfe::kernels::inline VFE_LEVEL
