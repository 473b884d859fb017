#include "scratch.hpp"

#include <new>

namespace vfe::runtime {
namespace {
constexpr std::align_val_t alignment{64};
}

Scratch::Scratch(std::size_t bytes) : data_(::operator new(bytes > 0 ? bytes : 1, alignment)) {}
Scratch::~Scratch() { ::operator delete(data_, alignment); }

}  // namespace vfe::runtime
