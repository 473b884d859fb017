// Sums over the states of an Ising model on the device: P = F o (L R), a product of three factors between the groups of
// spins, tile by tile by the matrix unit. No matrix is stored, neither P nor the factors: tables of them are.
//
// The factors go around: F_g is between the states of groups g and g + 1. Product g has rows m of group g, columns n of
// group g + 1, and is summed over states k of group g + 2:
//
//   P_mn = F_g(m, n) sum_k F_g+2(k, m) F_g+1(n, k)
#include <vector>

#include <runtime/launch.hpp>

#include "../cpp/kernels/exact_ising.hpp"
#include "../cpp/numerics/elementary.hpp"
#include "../cpp/numerics/ising.hpp"

namespace vfe::cuda {
namespace {

using kernels::IsingSums;
using numerics::spin_of;
using numerics::SpinGroup;

constexpr std::int64_t tile_bits = 7, tile = 1 << tile_bits;
constexpr int depth = 8;                  // states k at a time
constexpr int pitch = tile + 4;           // of rows in shared memory: neither fragments nor stores meet in a bank
constexpr int functions = 1 + tile_bits;  // of a state within its tile: 1, and the spins that differ there

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// States begin, ..., end - 1 of a group; tiles of them begin where the low bits are 0.
struct Span {
  std::int64_t begin, end;
  VFE_HD bool has(std::int64_t state) const { return state >= begin && state < end; }
  VFE_HD std::int64_t first_tile() const { return begin >> tile_bits; }
  VFE_HD std::int64_t n_tiles() const { return ((end - 1) >> tile_bits) - first_tile() + 1; }
};

// F(row, column) = low * high, by the low bits of a column's state and the others; the energies, whose power makes it a
// factor of the variance, are sums of two.
struct Factor {
  const double *low, *high, *low_energy, *high_energy;  // (row states, 2^bits)
  std::int64_t low_bits, high_bits;
  int power;

  struct Parts {
    double low = 0, high = 0;
    VFE_DEVICE double product() const { return low * high; }
  };

  template <bool weighted>
  VFE_DEVICE Parts parts(std::int64_t row, std::int64_t column) const {
    const std::int64_t of_low = (row << low_bits) + (column & ((std::int64_t{1} << low_bits) - 1));
    const std::int64_t of_high = (row << high_bits) + (column >> low_bits);
    Parts found{low[of_low], high[of_high]};
    if constexpr (weighted) {
      const double energy = low_energy[of_low] + high_energy[of_high];
      for (int k = 0; k < power; ++k) found.low *= energy;
    }
    return found;
  }
};

// A table of a factor: between the states of a group and those of some spins of the next one.
struct FillTable {
  static constexpr int n_threads = 256;
  numerics::IsingModel model;
  SpinGroup rows, columns;
  bool own;  // with the energy of the rows' group by itself
  double beta, shift;
  double *factor, *energy;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t k = thread.block() * n_threads + thread.index();
    const std::int64_t row = k >> columns.count, column = k & (columns.n_states() - 1);
    if (row >= rows.n_states()) return;
    double found = model.energy_between(rows, row, columns, column);
    if (own) found += model.energy_within(rows, row);
    factor[k] = numerics::exp(-beta * found);
    if (energy != nullptr) energy[k] = found - shift;
  }
};

// The sum of what the threads of a block have: of a warp by halves, then of the warps in order. For thread 0.
template <int n_threads>
struct BlockSum {
  double of_warp[n_threads / warp_size];

  VFE_DEVICE double of(const Thread& thread, double x) {
    VFE_UNROLL
    for (int mask = warp_size / 2; mask > 0; mask /= 2) x += thread.shuffle_xor(x, mask);
    if (thread.lane() == 0) of_warp[thread.warp()] = x;
    thread.barrier();
    double sum = 0;
    VFE_UNROLL
    for (int w = 0; w < n_threads / warp_size; ++w) sum += of_warp[w];
    return sum;
  }
};

// A tile of P, 128 x 128, by a block of eight warps of 32 x 64. What is kept of it: its sum, or, for moments, its sums
// with each spin of the rows, of the columns, and both, (functions, functions), and the sum of each row.
template <bool moments, bool weighted>
struct SumTiles {
  static constexpr int n_threads = 256, warp_rows = 32, warp_columns = 64;
  static constexpr int row_fragments = warp_rows / 8, column_fragments = warp_columns / 8;
  static constexpr int loads = depth * tile / n_threads;
  struct OfMoments {
    double columns[2][functions][tile];
  };
  struct OfTotal {
    BlockSum<n_threads> sum;
  };
  struct Shared {
    double operands[2][2][depth][pitch];  // two steps, so that one is filled while the other is read; then rows of P
    std::conditional_t<moments, OfMoments, OfTotal> rest;
  };
  static_assert(sizeof(Shared::operands) == warp_rows * pitch * sizeof(double));

  Factor left, right, third;  // F_g+2, F_g+1, F_g
  Span m, n, k;
  double *tile_sums, *row_sums;  // (n tiles, m tiles, 1 or functions^2), (n tiles, m tiles, 128)

  using Sums = double[row_fragments][column_fragments][2];
  struct Loaded {
    Factor::Parts left[loads], right[loads];
  };

  VFE_DEVICE std::int64_t tile_m(const Thread& thread) const { return thread.block() % m.n_tiles() + m.first_tile(); }
  VFE_DEVICE std::int64_t tile_n(const Thread& thread) const { return thread.block() / m.n_tiles() + n.first_tile(); }
  // Of the warp's fragments in the tile.
  VFE_DEVICE static int row_of(const Thread& thread) { return thread.warp() % 4 * warp_rows; }
  VFE_DEVICE static int column_of(const Thread& thread) { return thread.warp() / 4 * warp_columns; }

  VFE_DEVICE void operator()(const Thread& thread) const {
    Shared& shared = thread.shared<Shared>();
    Sums sums = {};
    Loaded loaded;
    std::int64_t state = k.begin / depth * depth;
    load(thread, state, loaded);
    for (int at = 0; state < k.end; at = 1 - at) {
      store(thread, shared, at, loaded);
      thread.barrier();  // who fills this half again has seen the next one, behind all reads of this
      state += depth;
      if (state < k.end) load(thread, state, loaded);
      multiply(thread, shared, at, sums);
    }
    thread.barrier();
    if constexpr (moments) {
      keep_moments(thread, shared, sums);
    } else {
      double total = 0;
      of_states(thread, [&](int i, int j, int r, int, int, double factor) { total += sums[i][j][r] * factor; });
      total = shared.rest.sum.of(thread, total);
      if (thread.index() == 0) tile_sums[thread.block()] = total;
    }
  }

  // Neighboring threads read neighboring states of a table: m of the left factor, four k of each n of the right one.
  VFE_DEVICE void load(const Thread& thread, std::int64_t first, Loaded& to) const {
    const std::int64_t of_m = tile_m(thread) * tile + thread.index() % tile;
    VFE_UNROLL
    for (int l = 0; l < loads; ++l) {
      const std::int64_t of_k = first + left_row(thread, l);
      to.left[l] = k.has(of_k) && m.has(of_m) ? left.template parts<weighted>(of_k, of_m) : Factor::Parts{};
    }
    VFE_UNROLL
    for (int l = 0; l < loads; ++l) {
      const std::int64_t of_k = first + right_row(thread, l), of_n = tile_n(thread) * tile + right_column(thread, l);
      to.right[l] = k.has(of_k) && n.has(of_n) ? right.template parts<weighted>(of_n, of_k) : Factor::Parts{};
    }
  }
  VFE_DEVICE static int left_row(const Thread& thread, int l) { return thread.index() / tile + 2 * l; }
  VFE_DEVICE static int right_row(const Thread& thread, int l) { return thread.index() % 4 + l % 2 * 4; }
  VFE_DEVICE static int right_column(const Thread& thread, int l) { return thread.index() / 4 + l / 2 * 64; }

  VFE_DEVICE static void store(const Thread& thread, Shared& shared, int at, const Loaded& from) {
    VFE_UNROLL
    for (int l = 0; l < loads; ++l) {
      shared.operands[at][0][left_row(thread, l)][thread.index() % tile] = from.left[l].product();
      shared.operands[at][1][right_row(thread, l)][right_column(thread, l)] = from.right[l].product();
    }
  }

  VFE_DEVICE static void multiply(const Thread& thread, const Shared& shared, int at, Sums& sums) {
    const int g = thread.lane() / 4, t = thread.lane() % 4;
    VFE_UNROLL
    for (int first = 0; first < depth; first += 4) {
      const double* a = &shared.operands[at][0][first + t][row_of(thread) + g];
      const double* b = &shared.operands[at][1][first + t][column_of(thread) + g];
      double rows[row_fragments], columns[column_fragments];
      VFE_UNROLL
      for (int i = 0; i < row_fragments; ++i) rows[i] = a[8 * i];
      VFE_UNROLL
      for (int j = 0; j < column_fragments; ++j) columns[j] = b[8 * j];
      VFE_UNROLL
      for (int i = 0; i < row_fragments; ++i) {
        VFE_UNROLL
        for (int j = 0; j < column_fragments; ++j) thread.multiply_doubles(sums[i][j], rows[i], columns[j]);
      }
    }
  }

  // Calls with each entry of this thread: its place in `sums`, that in the tile, and its third factor, 0 where there is
  // no such state.
  template <class Call>
  VFE_DEVICE void of_states(const Thread& thread, const Call& call) const {
    const int g = thread.lane() / 4, t = thread.lane() % 4;
    VFE_UNROLL
    for (int i = 0; i < row_fragments; ++i) {
      VFE_UNROLL
      for (int j = 0; j < column_fragments; ++j) {
        VFE_UNROLL
        for (int r = 0; r < 2; ++r) {
          const int row = row_of(thread) + 8 * i + g, column = column_of(thread) + 8 * j + 2 * t + r;
          const std::int64_t of_m = tile_m(thread) * tile + row, of_n = tile_n(thread) * tile + column;
          const bool both = m.has(of_m) && n.has(of_n);
          call(i, j, r, row, column, both ? third.template parts<weighted>(of_m, of_n).product() : 0.0);
        }
      }
    }
  }

  // P goes through shared memory, 32 rows at a time. A row's sum is that of eight threads; a column's, with the spins
  // of the rows, that of two.
  VFE_DEVICE void keep_moments(const Thread& thread, Shared& shared, const Sums& sums) const {
    double (&p)[warp_rows][pitch] = *reinterpret_cast<double (*)[warp_rows][pitch]>(&shared.operands);
    const int column = thread.index() % tile, part = thread.index() / tile;
    double of_column[functions] = {};
    for (int first = 0; first < tile; first += warp_rows) {
      if (row_of(thread) == first) {
        of_states(thread, [&](int i, int j, int r, int row, int of_p, double factor) {
          p[row - first][of_p] = sums[i][j][r] * factor;
        });
      }
      thread.barrier();
      double of_row = 0;
      for (int l = thread.index() % 8; l < tile; l += 8) of_row += p[thread.index() / 8][l];
      VFE_UNROLL
      for (int mask = 1; mask < 8; mask *= 2) of_row += thread.shuffle_xor(of_row, mask);
      if (thread.index() % 8 == 0) row_sums[thread.block() * tile + first + thread.index() / 8] = of_row;

      double total = 0;
      VFE_UNROLL
      for (int l = 0; l < warp_rows / 2; ++l) {
        const double x = p[part * (warp_rows / 2) + l][column];
        total += x;
        VFE_UNROLL
        for (int i = 0; i < 4; ++i) of_column[1 + i] += spin_of(l, i) * x;
      }
      of_column[0] += total;
      VFE_UNROLL
      for (int i = 4; i < tile_bits; ++i) of_column[1 + i] += spin_of(first + part * (warp_rows / 2), i) * total;
      thread.barrier();
    }
    VFE_UNROLL
    for (int i = 0; i < functions; ++i) shared.rest.columns[part][i][column] = of_column[i];
    thread.barrier();
    const int i = thread.index() / 4 / functions, j = thread.index() / 4 % functions;
    double sum = 0;
    for (int l = thread.index() % 4; l < tile; l += 4) {
      const double x = shared.rest.columns[0][i][l] + shared.rest.columns[1][i][l];
      sum += j == 0 ? x : spin_of(l, j - 1) * x;
    }
    sum += thread.shuffle_xor(sum, 1);
    sum += thread.shuffle_xor(sum, 2);
    if (thread.index() % 4 == 0) tile_sums[(thread.block() * functions + i) * functions + j] = sum;
  }
};

// Adds the sums of tiles, `coefficient` times, to a number.
struct AddTotals {
  static constexpr int n_threads = 256;
  using Shared = BlockSum<n_threads>;
  const double* tile_sums;
  std::int64_t n_tiles;
  double coefficient;
  double* to;

  VFE_DEVICE void operator()(const Thread& thread) const {
    double sum = 0;
    for (std::int64_t l = thread.index(); l < n_tiles; l += n_threads) sum += tile_sums[l];
    sum = thread.shared<Shared>().of(thread, sum);
    if (thread.index() == 0) *to += coefficient * sum;
  }
};

// What the sums of tiles give for spin i of the rows and j of the columns, or for 1 in place of a spin: a block each.
struct AddPairs {
  static constexpr int n_threads = 256;
  using Shared = BlockSum<n_threads>;
  const double* tile_sums;
  Span m, n;
  SpinGroup rows, columns;
  std::int64_t n_spins;
  double *total, *spins, *pairs;  // total: or null

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t i = thread.block() / (1 + columns.count), j = thread.block() % (1 + columns.count);
    double sum = 0;
    for (std::int64_t l = thread.index(); l < m.n_tiles() * n.n_tiles(); l += n_threads) {
      const double s = sign(i, l % m.n_tiles() + m.first_tile()), t = sign(j, l / m.n_tiles() + n.first_tile());
      sum += s * t * tile_sums[(l * functions + function(i)) * functions + function(j)];
    }
    sum = thread.shared<Shared>().of(thread, sum);
    if (thread.index() != 0) return;
    const std::int64_t a = rows.first + i - 1, b = columns.first + j - 1;
    if (i > 0 && j > 0) pairs[a * n_spins + b] = pairs[b * n_spins + a] = sum;
    if (i > 0 && j == 0) spins[a] = sum;
    if (i == 0 && j == 0 && total != nullptr) *total = sum;
  }
  // Spins beyond a tile's are the same in all of it.
  VFE_DEVICE static std::int64_t function(std::int64_t i) { return i <= tile_bits ? i : 0; }
  VFE_DEVICE static double sign(std::int64_t i, std::int64_t of_tile) {
    return i <= tile_bits ? 1.0 : spin_of(of_tile, i - 1 - tile_bits);
  }
};

// The weight of each row's state: the sums of its row in each tile. In place, to those of the first tile.
struct AddRows {
  static constexpr int n_threads = 256;
  std::int64_t n_rows, n_tiles;
  double* row_sums;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t row = thread.block() * n_threads + thread.index();
    if (row >= n_rows) return;
    double sum = 0;
    for (std::int64_t l = 0; l < n_tiles; ++l) sum += row_sums[l * n_rows + row];
    row_sums[row] = sum;
  }
};

// Pairs of spins of the rows' group, from the weights of its states: a block each.
struct AddPairsWithin {
  static constexpr int n_threads = 256;
  using Shared = BlockSum<n_threads>;
  const double* weights;
  Span m;
  SpinGroup rows;
  std::int64_t n_spins;
  double* pairs;

  VFE_DEVICE void operator()(const Thread& thread) const {
    const std::int64_t i = thread.block() / rows.count, j = thread.block() % rows.count;
    double sum = 0;
    for (std::int64_t l = thread.index(); l < m.n_tiles() * tile; l += n_threads) {
      const std::int64_t state = m.first_tile() * tile + l;
      sum += spin_of(state, i) * spin_of(state, j) * weights[l];
    }
    sum = thread.shared<Shared>().of(thread, sum);
    if (thread.index() == 0) pairs[(rows.first + i) * n_spins + rows.first + j] = sum;
  }
};

// The tables of factor g.
struct Tables {
  DeviceBuffer<double> low, high, low_energy, high_energy;
  Factor factor;

  Tables(const numerics::IsingModel& model, int g, double beta, double shift, bool energies) {
    const SpinGroup rows = numerics::spin_group(model.n, g), columns = numerics::spin_group(model.n, (g + 1) % 3);
    const std::int64_t low_bits = columns.count < tile_bits ? columns.count : tile_bits;
    const SpinGroup low_spins{columns.first, low_bits}, high_spins{columns.first + low_bits, columns.count - low_bits};
    const auto fill = [&](const SpinGroup& spins, bool own, DeviceBuffer<double>& table, DeviceBuffer<double>& energy) {
      const std::int64_t size = rows.n_states() * spins.n_states();
      table = DeviceBuffer<double>(size);
      if (energies) energy = DeviceBuffer<double>(size);
      launch(FillTable{model, rows, spins, own, beta, own ? shift : 0, table.data(), energy.data()},
             ceil_div(size, FillTable::n_threads));
    };
    fill(low_spins, true, low, low_energy);
    fill(high_spins, false, high, high_energy);
    factor = {low.data(), high.data(), low_energy.data(), high_energy.data(), low_bits, high_spins.count, 0};
  }
};

struct Problem {
  numerics::IsingModel model;
  Tables tables[3];
  SpinGroup groups[3];

  // Of a product of factors to these powers of their energies, for a range of states of the first group.
  template <class Kernel>
  Kernel product(int g, const Span& of_first, const int (&power)[3]) const {
    const auto span = [&](int group) { return group == 0 ? of_first : Span{0, groups[group].n_states()}; };
    const auto factor = [&](int which) {
      Factor found = tables[which].factor;
      found.power = power[which];
      return found;
    };
    const int next = (g + 1) % 3, last = (g + 2) % 3;
    return {factor(last), factor(next), factor(g), span(g), span(next), span(last), nullptr, nullptr};
  }
};

template <bool weighted>
void add_product(const Problem& problem, const Span& of_first, const int (&power)[3], double coefficient, double* to) {
  using Kernel = SumTiles<false, weighted>;
  Kernel kernel = problem.product<Kernel>(0, of_first, power);
  const std::int64_t n_tiles = kernel.m.n_tiles() * kernel.n.n_tiles();
  const DeviceBuffer<double> tile_sums(n_tiles);
  kernel.tile_sums = tile_sums.data();
  launch(kernel, n_tiles);
  launch(AddTotals{tile_sums.data(), n_tiles, coefficient, to}, 1);
}

void find_moments(const Problem& problem, const Span& of_first, double* sums) {
  using Kernel = SumTiles<true, false>;
  const std::int64_t n = problem.model.n;
  double *spins = sums + 2, *pairs = spins + n;
  for (int g = 0; g < 3; ++g) {
    Kernel kernel = problem.product<Kernel>(g, of_first, {0, 0, 0});
    const std::int64_t m_tiles = kernel.m.n_tiles(), n_tiles = kernel.n.n_tiles();
    const DeviceBuffer<double> tile_sums(m_tiles * n_tiles * functions * functions);
    const DeviceBuffer<double> row_sums(m_tiles * n_tiles * tile);
    kernel.tile_sums = tile_sums.data();
    kernel.row_sums = row_sums.data();
    launch(kernel, m_tiles * n_tiles);
    const SpinGroup &rows = problem.groups[g], &columns = problem.groups[(g + 1) % 3];
    launch(AddPairs{tile_sums.data(), kernel.m, kernel.n, rows, columns, n, g == 0 ? sums + 1 : nullptr, spins, pairs},
           (1 + rows.count) * (1 + columns.count));
    launch(AddRows{m_tiles * tile, n_tiles, row_sums.data()}, ceil_div(m_tiles * tile, AddRows::n_threads));
    launch(AddPairsWithin{row_sums.data(), kernel.m, rows, n, pairs}, rows.count * rows.count);
  }
}

// sum w (E - <E>)^2 with E - <E> = E_0 + E_1 + E_2, those of the factors.
void find_variance(const Problem& problem, const Span& of_first, double* sums) {
  add_product<false>(problem, of_first, {0, 0, 0}, 1, sums + 1);
  for (int g = 0; g < 3; ++g) {
    int square[3] = {}, mixed[3] = {1, 1, 1};
    square[g] = 2;
    mixed[g] = 0;
    add_product<true>(problem, of_first, square, 1, sums + 2);
    add_product<true>(problem, of_first, mixed, 2, sums + 2);
  }
}

}  // namespace

void exact_ising(const kernels::ExactIsingArgs& args) {
  const std::int64_t n = args.n_spins, size = kernels::exact_ising_sums(n, args.what);
  const Input<double> couplings(args.couplings, n * n), fields(args.fields, n);
  const Output<double> sums(args.sums, args.n_ranges * size);
  const std::vector<double> zeros(static_cast<std::size_t>(args.n_ranges * size));
  copy(sums.data(), zeros.data(), zeros.size() * sizeof(double));
  const numerics::IsingModel model{n, couplings.data(), fields.data()};
  const auto tables = [&](int g) {
    return Tables(model, g, args.beta, g == 0 ? args.energy : 0, args.what == IsingSums::variance);
  };
  const Problem problem{model,
                        {tables(0), tables(1), tables(2)},
                        {numerics::spin_group(n, 0), numerics::spin_group(n, 1), numerics::spin_group(n, 2)}};
  for (std::int64_t l = 0; l < args.n_ranges; ++l) {
    const std::int64_t first = (args.first_range + l) * args.range_states;
    const Span of_first{first, first + args.range_states};
    double* to = sums.data() + l * size;
    switch (args.what) {
      case IsingSums::log_z:
        add_product<false>(problem, of_first, {0, 0, 0}, 1, to + 1);
        break;
      case IsingSums::moments:
        find_moments(problem, of_first, to);
        break;
      case IsingSums::variance:
        find_variance(problem, of_first, to);
        break;
    }
    wait();
  }
  sums.finish();
}

}  // namespace vfe::cuda
