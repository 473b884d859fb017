#include "arrays.hpp"

#include <pybind11/stl.h>

#include <bit>
#include <cstring>
#include <memory>
#include <optional>

#include "../../cuda/cuda.hpp"
#include "../runtime/pages.hpp"
#include "device_arrays.hpp"

namespace vfe::bindings {
namespace {

std::string dtype_text(const py::array& array) { return py::str(array.dtype()).cast<std::string>(); }

bool native_order(const py::array& array) {
  constexpr char native = std::endian::native == std::endian::little ? '<' : '>';
  const char order = array.dtype().byteorder();
  return order == '=' || order == '|' || order == native;
}

// Lets other Python threads run while many values are converted.
class WithoutLock {
 public:
  explicit WithoutLock(std::int64_t n_values) {
    if (n_values > 100'000) release_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> release_;
};

// Reads one row of states through its stride; false if some value is neither 0 nor 1.
template <class T>
bool pack_row(const char* row, py::ssize_t stride, std::int64_t n_units, std::uint64_t* words) {
  bool good = true;
  for (std::int64_t first = 0; first < n_units; first += 64) {
    const std::int64_t count = n_units - first < 64 ? n_units - first : 64;
    std::uint64_t word = 0;
    for (std::int64_t u = 0; u < count; ++u) {
      T value;
      std::memcpy(&value, row + (first + u) * stride, sizeof value);
      good &= value == T(0) || value == T(1);
      word |= static_cast<std::uint64_t>(value == T(1)) << u;
    }
    words[first / 64] = word;
  }
  return good;
}

// Eight bytes of 0 or 1 as eight bits: the product gathers them in its top byte.
std::uint64_t eight_bits(std::uint64_t bytes) { return ((bytes & 0x0101010101010101u) * 0x0102040810204080u) >> 56; }

// Eight bits as bytes of 0 or 1: bit k of copy k is left, then moved to the bottom of its byte.
std::uint64_t eight_bytes(std::uint64_t bits) {
  const std::uint64_t one_each = bits * 0x0101010101010101u & 0x8040201008040201u;
  return (one_each + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
}

// The same as `eight_bits` for adjacent bytes, eight at a time.
bool pack_bytes(const char* row, std::int64_t n_units, std::uint64_t* words) {
  std::uint64_t seen = 0, bytes = 0;
  std::int64_t first = 0;
  for (; first + 64 <= n_units; first += 64) {
    std::uint64_t word = 0;
    for (int k = 0; k < 8; ++k) {
      std::memcpy(&bytes, row + first + 8 * k, 8);
      seen |= bytes;
      word |= eight_bits(bytes) << (8 * k);
    }
    words[first / 64] = word;
  }
  if (first < n_units) {
    std::uint64_t word = 0;
    for (std::int64_t u = 0; first + u < n_units; ++u) {
      const auto value = static_cast<std::uint8_t>(row[first + u]);
      seen |= value;
      word |= static_cast<std::uint64_t>(value & 1) << u;
    }
    words[first / 64] = word;
  }
  return (seen & ~std::uint64_t{0x0101010101010101u}) == 0;
}

template <class T>
bool pack_all(const py::array& states, std::int64_t n_units, std::uint64_t* words) {
  const auto* data = static_cast<const char*>(states.data());
  const py::ssize_t n_states = states.shape(0), by_state = states.strides(0), by_unit = states.strides(1);
  const bool bytes = sizeof(T) == 1 && by_unit == 1 && std::endian::native == std::endian::little;
  const WithoutLock unlocked(n_states * n_units);
  bool good = true;
  for (py::ssize_t s = 0; s < n_states; ++s) {
    const char* row = data + s * by_state;
    std::uint64_t* to = words + s * words_for(n_units);
    good &= bytes ? pack_bytes(row, n_units, to) : pack_row<T>(row, by_unit, n_units, to);
  }
  return good;
}

cuda::StateType state_type(const py::array& states, const std::string& name) {
  using cuda::StateType;
  const char kind = states.dtype().kind();
  const py::ssize_t size = states.itemsize();
  if (kind == 'f' && size == 4) return StateType::float32;
  if (kind == 'f' && size == 8) return StateType::float64;
  if (kind == 'b' || kind == 'i' || kind == 'u') {
    switch (size) {
      case 1:
        return StateType::bits8;
      case 2:
        return StateType::bits16;
      case 4:
        return StateType::bits32;
      case 8:
        return StateType::bits64;
      default:
        break;
    }
  }
  throw ArgumentTypeError(name + ": expected states of dtype bool, integer, float32 or float64, got " +
                          dtype_text(states));
}

bool pack_by_type(const py::array& states, cuda::StateType type, std::int64_t n_units, std::uint64_t* words) {
  switch (type) {
    case cuda::StateType::bits8:
      return pack_all<std::uint8_t>(states, n_units, words);
    case cuda::StateType::bits16:
      return pack_all<std::uint16_t>(states, n_units, words);
    case cuda::StateType::bits32:
      return pack_all<std::uint32_t>(states, n_units, words);
    case cuda::StateType::bits64:
      return pack_all<std::uint64_t>(states, n_units, words);
    case cuda::StateType::float32:
      return pack_all<float>(states, n_units, words);
    case cuda::StateType::float64:
      return pack_all<double>(states, n_units, words);
  }
  return false;
}

bool pack_on_device(const py::array& states, cuda::StateType type, std::int64_t n_units, std::uint64_t* words) {
  return cuda::side().pack({states.data(), type, states.shape(0), n_units, states.strides(0), states.strides(1)},
                           words);
}

}  // namespace

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")).cast<std::string>(); }

kernels::Real real_of(const py::array& array, const char* name) {
  const int number = array.dtype().num();
  const bool single = number == py::detail::npy_api::NPY_FLOAT_;
  if ((!single && number != py::detail::npy_api::NPY_DOUBLE_) || !native_order(array)) {
    throw ArgumentTypeError(std::string(name) + ": expected dtype float32 or float64 in native byte order, got " +
                            dtype_text(array));
  }
  return single ? kernels::Real::float32 : kernels::Real::float64;
}

void check_reals(const py::array& array, kernels::Real real, const std::vector<py::ssize_t>& shape, const char* name) {
  if (real_of(array, name) != real) {
    throw ArgumentTypeError(std::string(name) + ": expected " +
                            (real == kernels::Real::float32 ? "float32" : "float64") + " like the others, got " +
                            dtype_text(array));
  }
  if (std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()) != shape) {
    const auto expected = py::str(py::tuple(py::cast(shape))).cast<std::string>();
    throw ArgumentError(std::string(name) + ": expected " + expected + ", got " + shape_text(array));
  }
  if ((array.flags() & py::array::c_style) == 0) {
    throw ArgumentError(std::string(name) + ": expected a C-ordered array");
  }
}

kernels::RbmView rbm_view(const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias) {
  const kernels::Real real = real_of(weights, "weights");
  const auto check_bias = [&](const py::array& bias, const char* name, const char* symbol) {
    if (bias.ndim() != 1) {
      throw ArgumentError(std::string(name) + ": expected (" + symbol + ",), got " + shape_text(bias));
    }
    if (real_of(bias, name) != real) {
      throw ArgumentTypeError(std::string(name) + ": expected " + dtype_text(weights) + " like weights, got " +
                              dtype_text(bias));
    }
    if ((bias.flags() & py::array::c_style) == 0)
      throw ArgumentError(std::string(name) + ": expected a contiguous array");
  };
  check_bias(visible_bias, "visible_bias", "n_visible");
  check_bias(hidden_bias, "hidden_bias", "n_hidden");
  if (weights.ndim() != 2 || weights.shape(0) != visible_bias.shape(0) || weights.shape(1) != hidden_bias.shape(0)) {
    throw ArgumentError("weights: expected (n_visible, n_hidden) = (" + std::to_string(visible_bias.shape(0)) + ", " +
                        std::to_string(hidden_bias.shape(0)) + "), got " + shape_text(weights));
  }
  const py::ssize_t size = weights.itemsize();
  const bool aligned = reinterpret_cast<std::uintptr_t>(weights.data()) % static_cast<std::uintptr_t>(size) == 0;
  // The stride of an axis of length 1 is never used and may be anything.
  const py::ssize_t by_row = weights.shape(0) > 1 ? weights.strides(0) : size;
  const py::ssize_t by_column = weights.shape(1) > 1 ? weights.strides(1) : size;
  if (!aligned || by_row % size != 0 || by_column % size != 0 || (by_row != size && by_column != size)) {
    throw ArgumentError("weights: expected an array that is contiguous along one axis");
  }
  return {real,          weights.data(),  visible_bias.data(), hidden_bias.data(), weights.shape(0), weights.shape(1),
          by_row / size, by_column / size};
}

py::array new_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape) {
  constexpr std::size_t most = std::size_t{1} << 46;  // bytes; NumPy says what is wrong with more
  auto bytes = static_cast<std::size_t>(dtype.itemsize());
  for (const py::ssize_t length : shape) {
    if (length > 0 && bytes > most / static_cast<std::size_t>(length)) return {dtype, shape};
    bytes *= static_cast<std::size_t>(length);
  }
  if (bytes < runtime::least_paged) return {dtype, shape};
  struct Pages {
    std::size_t bytes;
    void* data;
    explicit Pages(std::size_t wanted) : bytes(wanted), data(runtime::take_pages(wanted)) {}
    ~Pages() { runtime::give_pages(data, bytes); }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
  };
  auto pages = std::make_unique<Pages>(bytes);
  void* const data = pages->data;
  const py::capsule owner(pages.get(), [](void* of) { delete static_cast<Pages*>(of); });
  pages.release();
  return {dtype, shape, data, owner};
}

py::array new_array(kernels::Real real, const std::vector<py::ssize_t>& shape) {
  return new_array(real == kernels::Real::float32 ? py::dtype::of<float>() : py::dtype::of<double>(), shape);
}

py::array new_frozen_array(kernels::Real real, const std::vector<py::ssize_t>& shape, void*& data) {
  const py::dtype dtype = real == kernels::Real::float32 ? py::dtype::of<float>() : py::dtype::of<double>();
  py::ssize_t size = dtype.itemsize();
  for (const py::ssize_t length : shape) size *= length;
  const auto bytes = py::reinterpret_steal<py::bytes>(PyBytes_FromStringAndSize(nullptr, size));
  if (!bytes) throw py::error_already_set();
  data = PyBytes_AS_STRING(bytes.ptr());
  py::array array(dtype, shape, data, bytes);
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  return array;
}

Words pack_states(const py::array& states, std::int64_t n_units, const std::string& name) {
  if (states.ndim() != 2 || states.shape(1) != n_units) {
    throw ArgumentError(name + ": expected (n_samples, " + std::to_string(n_units) + "), got " + shape_text(states));
  }
  if (!native_order(states)) {
    throw ArgumentTypeError(name + ": expected native byte order, got " + dtype_text(states));
  }
  const cuda::StateType type = state_type(states, name);
  Words words = new_words_like(states, states.shape(0), words_for(n_units));
  const auto pack = on_device(states) ? pack_on_device : pack_by_type;
  if (!pack(states, type, n_units, words.mutable_data())) {
    throw ArgumentError(name + ": expected states of 0s and 1s, got other values");
  }
  return words;
}

py::array_t<std::uint8_t> unpack_states(const Words& words, std::int64_t n_units) {
  check_words(words, n_units, "words");
  if (on_device(words)) {
    py::array_t<std::uint8_t> states = new_array_like(words, py::dtype::of<std::uint8_t>(), {words.shape(0), n_units});
    cuda::side().unpack(words.data(), words.shape(0), n_units, states.mutable_data());
    return states;
  }
  py::array_t<std::uint8_t> states = new_array(py::dtype::of<std::uint8_t>(), {words.shape(0), n_units});
  const std::uint64_t* from = words.data();
  std::uint8_t* to = states.mutable_data();
  const py::ssize_t n_states = words.shape(0), n_words = words.shape(1);
  const WithoutLock unlocked(n_states * n_units);
  for (py::ssize_t s = 0; s < n_states; ++s, from += n_words, to += n_units) {
    std::int64_t u = 0;
    if (std::endian::native == std::endian::little) {
      for (; u + 8 <= n_units; u += 8) {
        const std::uint64_t bytes = eight_bytes(from[u / 64] >> (u % 64) & 0xFF);
        std::memcpy(to + u, &bytes, 8);
      }
    }
    for (; u < n_units; ++u) to[u] = static_cast<std::uint8_t>((from[u / 64] >> (u % 64)) & 1);
  }
  return states;
}

void check_words(const Words& words, std::int64_t n_units, const char* name) {
  if (words.ndim() != 2 || words.shape(1) != words_for(n_units)) {
    throw ArgumentError(std::string(name) + ": expected packed states (n_samples, " +
                        std::to_string(words_for(n_units)) + "), got " + shape_text(words));
  }
}

}  // namespace vfe::bindings
