// Runs a grid on a processor: each thread of a block is a fiber, which runs until it meets the others. Blocks, and
// threads between two meetings, run in an order drawn anew for each, so what depends on an order that nobody promised
// differs from run to run. Threads that meet in different places are an error.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vfe::cuda::host {

constexpr std::size_t most_shared_bytes = 227 << 10;  // of a block, compute capability 9.0

using Body = void (*)(const void* context);
void run_grid(std::int64_t n_blocks, int n_threads, std::size_t shared_bytes, Body body, const void* context);

// For the thread that is running.
std::int64_t block();
std::int64_t n_blocks();
int thread();
void* shared_memory(std::size_t bytes);

// All threads of the block, or of the warp, wait here for each other; `where` says which of the operations it is.
void meet_block(const char* where);
void meet_warp(const char* where);

// 32 places of 64 bytes for what the lanes of this thread's warp show each other.
constexpr int show_bytes = 64;
unsigned char* shown_by(int lane);

}  // namespace vfe::cuda::host
