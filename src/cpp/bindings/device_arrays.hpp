// Arrays on a CUDA device, as NumPy's descriptors of memory that only a twin can read: shape, dtype and strides are
// looked at by the same gate as those of host arrays. Nothing in Python may touch their elements, so they stay inside
// the package; the face hands them over through DLPack (python/vfe_fast/device.py).
#pragma once

#include "arrays.hpp"

namespace vfe::bindings {

// Whether the elements are on a device.
bool on_device(const py::array& array);

// An uninitialised C-ordered array on the device in use.
py::array new_device_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape);

// The same where `like` is.
py::array new_array_like(const py::array& like, const py::dtype& dtype, const std::vector<py::ssize_t>& shape);

// The same of packed states.
Words new_words_like(const py::array& like, std::int64_t n_states, std::int64_t n_words);

// A copy in host memory of a C-ordered array on the device.
py::array to_host(const py::array& array);

void bind_device_arrays(py::module_& module);

}  // namespace vfe::bindings
