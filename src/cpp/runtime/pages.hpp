// Memory of large results.
//
// What the system gives to a process is filled with zeros first, and malloc gives large memory back and asks anew at
// every call: a third of the time of a kernel that writes more than it computes. So some of what was given back here is
// kept for the next result of that size. The system may take it at any time that it needs memory (MADV_FREE).
#pragma once

#include <cstddef>

namespace vfe::runtime {

constexpr std::size_t least_paged = std::size_t{1} << 22;  // bytes; of what is smaller malloc keeps the most

// Throws std::bad_alloc. The contents are undefined.
void* take_pages(std::size_t bytes);
void give_pages(void* data, std::size_t bytes) noexcept;

}  // namespace vfe::runtime
