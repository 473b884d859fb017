#include "device_arrays.hpp"

#include <pybind11/stl.h>

#include "../../cuda/cuda.hpp"
#include "kernels.hpp"

namespace vfe::bindings {
namespace {

// The layout of DLPack's structures, before version 1.0 of the protocol (dmlc.github.io/dlpack).
struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t n_dims;
  DLDataType dtype;
  std::int64_t *shape, *strides;  // strides in elements; null for C order
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
constexpr std::int32_t cuda_device = 2;
constexpr std::uint8_t code_int = 0, code_uint = 1, code_float = 2, code_bool = 6;

// Of the capsule that keeps an array's memory: ours, a std::shared_ptr<void>, or another library's.
constexpr const char *own_memory = "vfe_fast.own_memory", *borrowed_memory = "vfe_fast.borrowed_memory";

py::object owner_of(const py::array& array) {
  py::object base = array.base();
  while (base && py::isinstance<py::array>(base)) base = py::reinterpret_borrow<py::array>(base).base();
  return base;
}
bool owned_by(const py::object& owner, const char* name) { return owner && PyCapsule_IsValid(owner.ptr(), name) != 0; }

py::dtype dtype_of(const DLDataType& type) {
  const auto kind = [&]() -> const char* {
    switch (type.code) {
      case code_int:
        return "i";
      case code_uint:
        return "u";
      case code_float:
        return "f";
      case code_bool:
        return "b";
      default:
        return nullptr;
    }
  }();
  if (kind == nullptr || type.lanes != 1 || type.bits % 8 != 0 || type.bits < (type.code == code_float ? 16 : 8)) {
    throw ArgumentTypeError("expected an array of bool, integers or real numbers, got DLPack type " +
                            std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits");
  }
  return py::dtype(kind + std::to_string(type.bits / 8));
}

DLDataType type_of(const py::dtype& dtype) {
  const auto code = [&] {
    switch (dtype.kind()) {
      case 'i':
        return code_int;
      case 'u':
        return code_uint;
      case 'b':
        return code_bool;
      default:
        return code_float;
    }
  }();
  return {code, static_cast<std::uint8_t>(8 * dtype.itemsize()), 1};
}

// What stands for it. NumPy would give an array without an address memory of its own.
py::array describe(const py::dtype& dtype, const std::vector<py::ssize_t>& shape,
                   const std::vector<py::ssize_t>& strides, void* data, const py::capsule& owner) {
  static char of_nothing;
  return {dtype, shape, strides, data != nullptr ? data : &of_nothing, owner};
}

// Takes over what a DLPack capsule owns.
py::array borrow_device_array(const py::capsule& capsule) {
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw py::error_already_set();
  const DLTensor& tensor = managed->tensor;
  if (tensor.device.type != cuda_device) {
    throw ArgumentTypeError("expected an array on a CUDA device, got DLPack device type " +
                            std::to_string(tensor.device.type));
  }
  const py::dtype dtype = dtype_of(tensor.dtype);
  std::vector<py::ssize_t> shape(tensor.shape, tensor.shape + tensor.n_dims), strides(shape.size());
  py::ssize_t step = dtype.itemsize();
  for (std::size_t d = shape.size(); d-- > 0; step *= shape[d]) {
    strides[d] = tensor.strides != nullptr ? tensor.strides[d] * dtype.itemsize() : step;
  }
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  const py::capsule owner(managed, borrowed_memory, [](void* pointer) {
    auto* owned = static_cast<DLManagedTensor*>(pointer);
    if (owned->deleter != nullptr) owned->deleter(owned);
  });
  return describe(dtype, shape, strides, static_cast<std::byte*>(tensor.data) + tensor.byte_offset, owner);
}

struct Export {
  DLManagedTensor managed;
  std::vector<std::int64_t> shape, strides;
  PyObject* array;
};

// Lets another library have it, which uses it on a stream of its own (-1: of any): a capsule that keeps the array.
py::capsule lend_device_array(const py::array& array, std::int32_t device_id, std::intptr_t stream) {
  if (const py::object owner = owner_of(array); owned_by(owner, own_memory)) {
    cuda::side().share(*static_cast<std::shared_ptr<void>*>(PyCapsule_GetPointer(owner.ptr(), own_memory)),
                       static_cast<std::uintptr_t>(stream));
  }
  auto owned = std::make_unique<Export>();
  for (py::ssize_t d = 0; d < array.ndim(); ++d) {
    owned->shape.push_back(array.shape(d));
    owned->strides.push_back(array.strides(d) / array.itemsize());
  }
  owned->managed = {{array.size() > 0 ? const_cast<void*>(array.data()) : nullptr,
                     {cuda_device, device_id},
                     static_cast<std::int32_t>(array.ndim()),
                     type_of(array.dtype()),
                     owned->shape.data(),
                     owned->strides.data(),
                     0},
                    owned.get(),
                    [](DLManagedTensor* managed) {
                      const py::gil_scoped_acquire acquire;
                      auto* of_array = static_cast<Export*>(managed->context);
                      Py_DECREF(of_array->array);
                      delete of_array;
                    }};
  owned->array = array.inc_ref().ptr();
  const py::capsule capsule(&owned->managed, "dltensor", [](PyObject* self) {
    if (PyCapsule_IsValid(self, "dltensor") == 0) return;  // somebody took it over
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(self, "dltensor"));
    managed->deleter(managed);
  });
  owned.release();
  return capsule;
}

}  // namespace

py::array new_device_array(const py::dtype& dtype, const std::vector<py::ssize_t>& shape) {
  cuda::table();  // throws if there is no device
  py::ssize_t size = dtype.itemsize();
  for (const py::ssize_t length : shape) size *= length;
  auto memory = std::make_unique<std::shared_ptr<void>>(cuda::side().allocate(static_cast<std::size_t>(size)));
  void* data = memory->get();
  const py::capsule owner(memory.release(), own_memory,
                          [](void* pointer) { delete static_cast<std::shared_ptr<void>*>(pointer); });
  return describe(dtype, shape, {}, data, owner);
}

namespace {

py::array to_device(const py::array& host) {
  const auto packed = py::array::ensure(host, py::array::c_style);
  py::array array =
      new_device_array(packed.dtype(), std::vector<py::ssize_t>(packed.shape(), packed.shape() + packed.ndim()));
  cuda::side().copy(array.mutable_data(), packed.data(), static_cast<std::size_t>(packed.nbytes()));
  return array;
}

}  // namespace

py::array to_host(const py::array& array) {
  if ((array.flags() & py::array::c_style) == 0) throw ArgumentError("array: expected one in C order");
  py::array host(array.dtype(), std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
  cuda::side().copy(host.mutable_data(), array.data(), static_cast<std::size_t>(array.nbytes()));
  return host;
}

bool on_device(const py::array& array) {
  const py::object owner = owner_of(array);
  return owned_by(owner, own_memory) || owned_by(owner, borrowed_memory);
}

py::array new_array_like(const py::array& like, const py::dtype& dtype, const std::vector<py::ssize_t>& shape) {
  return on_device(like) ? new_device_array(dtype, shape) : new_array(dtype, shape);
}

Words new_words_like(const py::array& like, std::int64_t n_states, std::int64_t n_words) {
  if (on_device(like)) return new_device_array(py::dtype::of<std::uint64_t>(), {n_states, n_words});
  return new_array(py::dtype::of<std::uint64_t>(), {n_states, n_words});
}

void bind_device_arrays(py::module_& module) {
  module.def("borrow_device_array", borrow_device_array, py::arg("capsule"),
             "Takes over a DLPack capsule: an array whose elements Python must not touch.");
  module.def("lend_device_array", lend_device_array, py::arg("array").noconvert(), py::arg("device_id"),
             py::arg("stream"), "A DLPack capsule of an array on a device, for who uses it on a stream (-1: on any).");
  module.def("cuda_device", [] { return cuda::side().device(); }, "The number of the CUDA device in use.");
  module.def("empty_cuda_cache", [] { cuda::side().empty_cache(); }, "Gives idle device memory back to the driver.");
  module.def("cuda_stream", [] { return cuda::side().stream(); }, "Where this thread's kernels and copies go.");
  module.def(
      "use_cuda_stream", [](std::uintptr_t stream) { cuda::side().use_stream(stream); }, py::arg("stream"),
      "Where they go from now on: a cudaStream_t, 0 for the default stream.");
  module.def(
      "let_cuda_stream_wait", [](std::uintptr_t stream) { cuda::side().let_wait(stream); }, py::arg("stream"),
      "Has another stream wait for what this thread's kernels have been given so far.");
  module.def("on_device", on_device, py::arg("array").noconvert(), "Whether the elements are on a device.");
  module.def("to_device", to_device, py::arg("array").noconvert(), "A copy on the device in use.");
  module.def("to_host", to_host, py::arg("array").noconvert(), "A copy in host memory.");
}

}  // namespace vfe::bindings
