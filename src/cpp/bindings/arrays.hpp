// The gate between Python and the kernels: the one place that looks at dtype, layout and byte order.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "../kernels/rbm.hpp"

namespace vfe::bindings {

namespace py = pybind11;

using Words = py::array_t<std::uint64_t, py::array::c_style>;
using Betas = py::array_t<double, py::array::c_style | py::array::forcecast>;

// "(3, 4)"
std::string shape_text(const py::array& array);

// float32 or float64 in native byte order; anything else raises TypeError naming `name`.
kernels::Real real_of(const py::array& array, const char* name);

// A C-ordered array of this dtype and shape; anything else raises naming `name`.
void check_reals(const py::array& array, kernels::Real real, const std::vector<py::ssize_t>& shape, const char* name);

// The parameters as the kernels see them. Raises when dtypes or shapes do not agree.
kernels::RbmView rbm_view(const py::array& weights, const py::array& visible_bias, const py::array& hidden_bias);

// An uninitialised C-ordered array of the given dtype; large ones are made of runtime/pages.hpp.
py::array new_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape);
py::array new_array(kernels::Real real, const std::vector<py::ssize_t>& shape);

// The same in memory that Python can never write to; `data` is where to write before it is handed over.
py::array new_frozen_array(kernels::Real real, const std::vector<py::ssize_t>& shape, void*& data);

// States of 0s and 1s, (n_samples, n_units), to packed words and back. Every bool, integer and float
// dtype is read through its strides, without a copy; a value that is neither 0 nor 1 raises.
Words pack_states(const py::array& states, std::int64_t n_units, const std::string& name);
py::array_t<std::uint8_t> unpack_states(const Words& words, std::int64_t n_units);

// Packed states of the right width; raises ValueError naming `name` otherwise.
void check_words(const Words& words, std::int64_t n_units, const char* name);

inline std::int64_t words_for(std::int64_t n_units) { return (n_units + 63) / 64; }

}  // namespace vfe::bindings
