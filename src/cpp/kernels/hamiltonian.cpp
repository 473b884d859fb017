#include "hamiltonian.hpp"

#include "../numerics/uniform.hpp"
#include "gaussian_sweep.hpp"

namespace vfe::kernels::inline VFE_LEVEL {
namespace {

constexpr std::int64_t most_block_chains = 32;  // whose numbers stay in a second-level cache
constexpr std::int64_t lanes = strip_width<double>;
constexpr double too_far = 1000;  // growth of H beyond which a trajectory has diverged

// Terms are added lane by lane, lanes at the end.
struct LaneSum {
  double lane[lanes] = {};

  VFE_HD double value() const {
    double sum = 0;
    for (std::int64_t l = 0; l < lanes; ++l) sum += lane[l];
    return sum;
  }
};

// What U is made of. Rows of units are padded with zeros to whole lanes.
struct Potential {
  const GaussianSweep<double>& sweep;
  const double beta;
  const std::int64_t n_visible, n_hidden, visible_stride, hidden_stride;
  const runtime::Buffer<double> visible_bias, hidden_bias, precision;

  Potential(const HamiltonianArgs& args, const GaussianSweep<double>& prepared)
      : sweep(prepared),
        beta(args.beta),
        n_visible(args.rbm.n_visible),
        n_hidden(args.rbm.n_hidden),
        visible_stride(ceil_div(n_visible, lanes) * lanes),
        hidden_stride(ceil_div(n_hidden, lanes) * lanes),
        visible_bias(visible_stride),
        hidden_bias(hidden_stride),
        precision(visible_stride) {
    pad(static_cast<const double*>(args.rbm.visible_bias), n_visible, visible_stride, visible_bias);
    pad(static_cast<const double*>(args.rbm.hidden_bias), n_hidden, hidden_stride, hidden_bias);
    pad(args.sigma, n_visible, visible_stride, precision);
    for (std::int64_t i = 0; i < n_visible; ++i) precision[i] = 1.0 / (precision[i] * precision[i]);
  }

  // What of a row belongs to a tile.
  static std::int64_t width(std::int64_t tile, std::int64_t stride) {
    const std::int64_t left = stride - tile * tile_width;
    return left < tile_width ? left : tile_width;
  }
};

// Where the chains of a block are.
struct Place {
  const runtime::Buffer<double> v, slope, u;

  Place(const Potential& of, std::int64_t n_chains)
      : v(n_chains * of.visible_stride), slope(n_chains * of.visible_stride), u(n_chains) {}

  void copy_row(const Place& from, std::int64_t chain, std::int64_t stride) const {
    for (std::int64_t i = chain * stride; i < (chain + 1) * stride; ++i) {
      v[i] = from.v[i];
      slope[i] = from.slope[i];
    }
    u[chain] = from.u[chain];
  }
};

// What finding U and its slope takes, for a block of chains.
struct Evaluation {
  const Potential& of;
  const std::int64_t n_chains;
  const runtime::Buffer<double> scaled, means, fields;

  Evaluation(const Potential& potential, std::int64_t n)
      : of(potential), n_chains(n), scaled(n * of.visible_stride), means(n * of.hidden_stride), fields(n * tile_width) {
    for (std::int64_t k = 0; k < n * tile_width; ++k) fields[k] = 0;  // padding keeps it
  }

  void find(const Place& place) const {
    scale(place);
    for (std::int64_t tile = 0; tile < of.sweep.to_hidden.n_tiles; ++tile) {
      runtime::check_interrupt();
      find_products(of.sweep.to_hidden, tile, {scaled.data(), n_chains, of.visible_stride, 1}, fields.data());
      take_means(tile, place);
    }
    for (std::int64_t tile = 0; tile < of.sweep.to_visible.n_tiles; ++tile) {
      runtime::check_interrupt();
      find_products(of.sweep.to_visible, tile, {means.data(), n_chains, of.hidden_stride, 1}, fields.data());
      take_slope(tile, place);
    }
  }

 private:
  void scale(const Place& place) const {
    for (std::int64_t c = 0; c < n_chains; ++c) {
      const double* v = place.v.data() + c * of.visible_stride;
      double* to = scaled.data() + c * of.visible_stride;
      LaneSum squares;
      for (std::int64_t i = 0; i < of.visible_stride; i += lanes) {
        for (std::int64_t l = 0; l < lanes; ++l) {
          const double away = v[i + l] - of.visible_bias[i + l];
          to[i + l] = v[i + l] * of.precision[i + l];
          squares.lane[l] += away * away * of.precision[i + l];
        }
      }
      place.u[c] = 0.5 * of.beta * squares.value();
    }
  }

  // Means of hidden units, and their terms of U.
  void take_means(std::int64_t tile, const Place& place) const {
    const double* bias = of.hidden_bias.data() + tile * tile_width;
    const std::int64_t width = Potential::width(tile, of.hidden_stride);
    double there[tile_width];
    for (std::int64_t l = 0; l < width; ++l) there[l] = tile * tile_width + l < of.n_hidden ? 1 : 0;
    for (std::int64_t c = 0; c < n_chains; ++c) {
      double* to = means.data() + c * of.hidden_stride + tile * tile_width;
      LaneSum terms;
      for (std::int64_t k = 0; k < width; k += lanes) {
        const double* field = fields.data() + k * n_chains + c * lanes;
        for (std::int64_t l = 0; l < lanes; ++l) {
          const double x = of.beta * (field[l] + bias[k + l]);
          const double e = numerics::exp_negative(-numerics::magnitude(x));
          to[k + l] = (x < 0 ? e : 1.0) / (1.0 + e);
          terms.lane[l] += there[k + l] * ((x < 0 ? 0.0 : x) + numerics::log1p_unit(e));
        }
      }
      place.u[c] -= terms.value();
    }
  }

  void take_slope(std::int64_t tile, const Place& place) const {
    const double* bias = of.visible_bias.data() + tile * tile_width;
    const double* precision = of.precision.data() + tile * tile_width;
    const std::int64_t width = Potential::width(tile, of.visible_stride);
    for (std::int64_t c = 0; c < n_chains; ++c) {
      const std::int64_t first = c * of.visible_stride + tile * tile_width;
      for (std::int64_t k = 0; k < width; k += lanes) {
        const double* field = fields.data() + k * n_chains + c * lanes;
        for (std::int64_t l = 0; l < lanes; ++l) {
          const double pulled = (place.v[first + k + l] - bias[k + l]) - field[l];
          place.slope[first + k + l] = of.beta * pulled * precision[k + l];
        }
      }
    }
  }
};

// Chains [first, first + n), all moves.
class Block {
 public:
  Block(const HamiltonianArgs& args, const Potential& of, std::int64_t first, std::int64_t n)
      : args_(args),
        of_(of),
        first_(first),
        n_(n),
        here_(of, n),
        there_(of, n),
        p_(n * of.visible_stride),
        kinetic_(n),
        root_of_mass_(of.visible_stride),
        inverse_mass_(of.visible_stride),
        evaluation_(of, n) {
    for (std::int64_t i = 0; i < of.visible_stride; ++i) {
      root_of_mass_[i] = i < of.n_visible ? numerics::square_root(args.mass[i]) : 0;
      inverse_mass_[i] = i < of.n_visible ? 1.0 / args.mass[i] : 0;
    }
    for (std::int64_t c = 0; c < n; ++c) {
      const double* from = args.start + (first + c) * of.n_visible;
      double* to = here_.v.data() + c * of.visible_stride;
      for (std::int64_t i = 0; i < of.visible_stride; ++i) to[i] = i < of.n_visible ? from[i] : 0;
      args.acceptance[first + c] = 0;
      args.divergent[first + c] = 0;
    }
    evaluation_.find(here_);
  }

  void run() {
    for (std::int64_t t = 0; t < args_.n_moves; ++t) {
      draw_momenta(t);
      follow(args_.n_steps[t]);
      for (std::int64_t c = 0; c < n_; ++c) {
        if (is_taken(t, c)) here_.copy_row(there_, c, of_.visible_stride);
      }
      if ((t + 1) % args_.every == 0) put_samples(t / args_.every);
    }
  }

 private:
  void draw_momenta(std::int64_t t) {
    Draw draw{numerics::key_from(args_.seed), static_cast<std::uint32_t>(first_),
              static_cast<std::uint64_t>(args_.first_move + t)};
    for (std::int64_t c = 0; c < n_; ++c, ++draw.chain) {
      for (std::int64_t tile = 0; tile < of_.sweep.to_visible.n_tiles; ++tile) {
        double normals[tile_width];
        tile_normals(draw, Stream::hamiltonian_momentum, tile, normals);
        double* p = p_.data() + c * of_.visible_stride + tile * tile_width;
        for (std::int64_t l = 0; l < Potential::width(tile, of_.visible_stride); ++l)
          p[l] = normals[l] * root_of_mass_[tile * tile_width + l];
      }
      kinetic_[c] = kinetic(c);
      there_.copy_row(here_, c, of_.visible_stride);
    }
  }

  double kinetic(std::int64_t chain) const {
    const double* p = p_.data() + chain * of_.visible_stride;
    LaneSum squares;
    for (std::int64_t i = 0; i < of_.visible_stride; i += lanes) {
      for (std::int64_t l = 0; l < lanes; ++l) squares.lane[l] += p[i + l] * p[i + l] * inverse_mass_[i + l];
    }
    return 0.5 * squares.value();
  }

  // The leapfrog from `there_`, momenta and all.
  void follow(std::int64_t n_steps) {
    const auto push = [&](double step) {
      for (std::int64_t k = 0; k < n_ * of_.visible_stride; ++k) p_[k] -= step * there_.slope[k];
    };
    push(0.5 * args_.step);
    for (std::int64_t k = 0; k < n_steps; ++k) {
      for (std::int64_t c = 0; c < n_; ++c) {
        double* v = there_.v.data() + c * of_.visible_stride;
        const double* p = p_.data() + c * of_.visible_stride;
        for (std::int64_t i = 0; i < of_.visible_stride; ++i) v[i] += args_.step * p[i] * inverse_mass_[i];
      }
      evaluation_.find(there_);
      push(k + 1 < n_steps ? args_.step : 0.5 * args_.step);
    }
  }

  bool is_taken(std::int64_t t, std::int64_t c) {
    const double gain = here_.u[c] + kinetic_[c] - there_.u[c] - kinetic(c);
    const bool is_number = numerics::magnitude(gain) <= std::numeric_limits<double>::max();
    if (!is_number || gain < -too_far) ++args_.divergent[first_ + c];
    const double probability = !is_number ? 0.0 : gain < 0 ? numerics::exp(gain) : 1.0;
    args_.acceptance[first_ + c] += probability;
    if (!args_.tested) return true;
    const numerics::Words4 words = numerics::philox4x32(
        numerics::draw_counter(0, static_cast<std::uint32_t>(first_ + c),
                               static_cast<std::uint64_t>(args_.first_move + t), Stream::hamiltonian_test),
        numerics::key_from(args_.seed));
    return numerics::uniform_double(words.word[0], words.word[1]) < probability;
  }

  void put_samples(std::int64_t k) const {
    const std::int64_t n_samples = args_.n_moves / args_.every;
    for (std::int64_t c = 0; c < n_; ++c) {
      const std::int64_t at = (first_ + c) * n_samples + k;
      const double* v = here_.v.data() + c * of_.visible_stride;
      for (std::int64_t i = 0; i < of_.n_visible; ++i) args_.samples[at * of_.n_visible + i] = v[i];
      args_.energies[at] = here_.u[c];
    }
  }

  const HamiltonianArgs& args_;
  const Potential& of_;
  const std::int64_t first_, n_;
  const Place here_, there_;
  const runtime::Buffer<double> p_, kinetic_, root_of_mass_, inverse_mass_;
  const Evaluation evaluation_;
};

}  // namespace

void hamiltonian(const HamiltonianArgs& args) {
  runtime::Cache used_once;
  const auto& sweep =
      GaussianSweep<double>::of(args.prepared != nullptr ? *args.prepared : used_once, args.rbm, args.num_threads);
  const Potential potential(args, sweep);
  double n_gradients = 1;
  for (std::int64_t t = 0; t < args.n_moves; ++t) n_gradients += static_cast<double>(args.n_steps[t]);
  const double n_weights = static_cast<double>(args.rbm.n_visible) * static_cast<double>(args.rbm.n_hidden);
  const double of_gradient = n_weights / 6.0 + 3.0 * static_cast<double>(args.rbm.n_visible + args.rbm.n_hidden);
  const double nanoseconds = static_cast<double>(args.n_chains) * n_gradients * of_gradient;
  const std::int64_t size = runtime::items_per_task(args.n_chains, most_block_chains, nanoseconds, args.num_threads);
  runtime::parallel_for(ceil_div(args.n_chains, size), nanoseconds, args.num_threads, [&](std::int64_t task) {
    const std::int64_t first = task * size, left = args.n_chains - first;
    Block(args, potential, first, left < size ? left : size).run();
  });
}

}  // namespace vfe::kernels::inline VFE_LEVEL
