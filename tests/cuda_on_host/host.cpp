// The processor that plays a CUDA device: memory with fences, and fibers.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../src/cuda/cuda.hpp"

extern "C" [[gnu::visibility("default")]] const vfe::cuda::Side vfe_cuda_side;
extern "C" const vfe::cuda::Side vfe_cuda_side = vfe::cuda::linked;

namespace {

// --- memory: a fence of ones before and behind each block, and ones in it until it is written

constexpr std::size_t fence = 4096;
constexpr unsigned char unwritten = 0xFF;

std::mutex mutex;
struct Block {
  std::size_t bytes;
  int device;
};
std::map<const unsigned char*, Block> blocks;
std::size_t left = std::size_t{2} << 30;  // "on the device"
// A block that is used again is not filled again, and its fences are looked at when it is freed.
const int no_cache = setenv("VFE_CUDA_CACHE", "0", 0);

bool whole(const unsigned char* data, std::size_t bytes) {
  const auto is_fence = [](const unsigned char* begin) {
    return std::all_of(begin, begin + fence, [](unsigned char byte) { return byte == unwritten; });
  };
  return is_fence(data - fence) && is_fence(data + bytes);
}

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "cuda-on-host: %s\n", what);
  std::abort();
}

}  // namespace

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  const std::lock_guard lock(mutex);
  if (bytes > left) return cudaErrorMemoryAllocation;
  void* found = std::aligned_alloc(fence, (bytes + 3 * fence - 1) / fence * fence);
  if (found == nullptr) return cudaErrorMemoryAllocation;
  std::memset(found, unwritten, bytes + 2 * fence);
  auto* begin = static_cast<unsigned char*>(found) + fence;
  left -= bytes;
  blocks[begin] = {bytes, 0};
  cudaGetDevice(&blocks[begin].device);
  *data = begin;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  const std::lock_guard lock(mutex);
  const auto block = blocks.find(static_cast<const unsigned char*>(data));
  if (block == blocks.end()) return cudaErrorInvalidValue;
  if (!whole(block->first, block->second.bytes)) stop("a kernel wrote beside an array");
  left += block->second.bytes;
  std::free(static_cast<unsigned char*>(data) - fence);
  blocks.erase(block);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const std::lock_guard lock(mutex);
  const auto* byte = static_cast<const unsigned char*>(pointer);
  auto block = blocks.upper_bound(byte);
  const bool ours = block != blocks.begin() && (--block, byte < block->first + block->second.bytes);
  *attributes = {ours ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered, ours ? block->second.device : -1};
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}

namespace vfe::cuda::host {
namespace {

// --- fibers

constexpr std::size_t stack_bytes = 256 << 10;
constexpr int lanes = 32;

struct Fiber {
  ucontext_t begin;  // setcontext asks the kernel for signal masks, jumps do not
  jmp_buf here;
  bool begun = false;
  const char* waits = nullptr;  // for the others, in this operation
  bool for_block = false, done = false;
};

struct Grid {
  std::int64_t n_blocks, block = 0;
  int n_threads, running = 0;
  Body body;
  const void* context;
  std::vector<unsigned char> shared;
  std::vector<Fiber> fibers;
  std::vector<unsigned char> shown;
  unsigned char* stacks;
  jmp_buf scheduler;
  std::exception_ptr error;

  Grid(std::int64_t blocks_, int threads_, std::size_t shared_bytes, Body body_, const void* context_)
      : n_blocks(blocks_),
        n_threads(threads_),
        body(body_),
        context(context_),
        shared(shared_bytes),
        fibers(static_cast<std::size_t>(threads_)),
        shown(static_cast<std::size_t>((threads_ + lanes - 1) / lanes * lanes * show_bytes)) {
    void* memory =
        mmap(nullptr, stacks_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks = static_cast<unsigned char*>(memory);
  }
  ~Grid() { munmap(stacks, stacks_bytes()); }
  Grid(const Grid&) = delete;
  Grid& operator=(const Grid&) = delete;
  std::size_t stacks_bytes() const { return static_cast<std::size_t>(n_threads) * stack_bytes; }

  void run_block(std::mt19937& order);
  void release();
};

thread_local Grid* grid = nullptr;

void enter() {
  Fiber& fiber = grid->fibers[static_cast<std::size_t>(grid->running)];
  try {
    grid->body(grid->context);
  } catch (...) {
    grid->error = std::current_exception();
  }
  fiber.done = true;
  _longjmp(grid->scheduler, 1);
}

[[gnu::noinline]] void resume(Fiber& fiber) {
  if (_setjmp(grid->scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.here, 1);
  fiber.begun = true;
  setcontext(&fiber.begin);
}

[[gnu::noinline]] void meet(const char* where, bool for_block) {
  Fiber& fiber = grid->fibers[static_cast<std::size_t>(grid->running)];
  fiber.waits = where;
  fiber.for_block = for_block;
  if (_setjmp(fiber.here) == 0) _longjmp(grid->scheduler, 1);
}

// Lets go the groups all of whose threads have come to the same place.
void Grid::release() {
  const auto ready = [&](int first, int count, bool for_block) {
    const Fiber& of_first = fibers[static_cast<std::size_t>(first)];
    for (int k = first; k < first + count; ++k) {
      const Fiber& fiber = fibers[static_cast<std::size_t>(k)];
      if (fiber.done || fiber.waits == nullptr || fiber.for_block != for_block) return false;
      if (std::strcmp(fiber.waits, of_first.waits) != 0) {
        throw std::logic_error(std::string("cuda-on-host: threads meet in different operations: ") + fiber.waits +
                               " and " + of_first.waits);
      }
    }
    return true;
  };
  bool any = false;
  const auto let_go = [&](int first, int count, bool for_block) {
    if (!ready(first, count, for_block)) return;
    any = true;
    for (int k = first; k < first + count; ++k) fibers[static_cast<std::size_t>(k)].waits = nullptr;
  };
  let_go(0, n_threads, true);
  for (int first = 0; first < n_threads; first += lanes) let_go(first, std::min(lanes, n_threads - first), false);
  if (!any) throw std::logic_error("cuda-on-host: threads wait for others that have ended or wait elsewhere");
}

void Grid::run_block(std::mt19937& order) {
  std::fill(shared.begin(), shared.end(), unwritten);
  std::fill(shown.begin(), shown.end(), unwritten);
  for (int k = 0; k < n_threads; ++k) {
    Fiber& fiber = fibers[static_cast<std::size_t>(k)];
    fiber.waits = nullptr;
    fiber.done = fiber.begun = false;
    getcontext(&fiber.begin);
    fiber.begin.uc_stack.ss_sp = stacks + static_cast<std::size_t>(k) * stack_bytes;
    fiber.begin.uc_stack.ss_size = stack_bytes;
    fiber.begin.uc_link = nullptr;
    makecontext(&fiber.begin, enter, 0);
  }
  std::vector<int> turns(static_cast<std::size_t>(n_threads));
  std::iota(turns.begin(), turns.end(), 0);
  for (;;) {
    std::shuffle(turns.begin(), turns.end(), order);
    bool all_done = true;
    for (const int k : turns) {
      Fiber& fiber = fibers[static_cast<std::size_t>(k)];
      if (fiber.done || fiber.waits != nullptr) continue;
      running = k;
      resume(fiber);
      if (error) std::rethrow_exception(error);
    }
    for (const Fiber& fiber : fibers) all_done = all_done && fiber.done;
    if (all_done) return;
    bool any_free = false;
    for (const Fiber& fiber : fibers) any_free = any_free || (!fiber.done && fiber.waits == nullptr);
    if (!any_free) release();
  }
}

}  // namespace

void run_grid(std::int64_t n_blocks, int n_threads, std::size_t shared_bytes, Body body, const void* context) {
  static std::atomic<unsigned> seed = 1;
  std::mt19937 order(seed++);
  Grid own(n_blocks, n_threads, shared_bytes, body, context);
  grid = &own;
  std::vector<std::int64_t> turns(static_cast<std::size_t>(n_blocks));
  std::iota(turns.begin(), turns.end(), 0);
  std::shuffle(turns.begin(), turns.end(), order);
  try {
    for (const std::int64_t block : turns) {
      own.block = block;
      own.run_block(order);
    }
  } catch (...) {
    grid = nullptr;
    throw;
  }
  grid = nullptr;
}

std::int64_t block() { return grid->block; }
std::int64_t n_blocks() { return grid->n_blocks; }
int thread() { return grid->running; }

void* shared_memory(std::size_t bytes) {
  if (bytes > grid->shared.size()) throw std::logic_error("cuda-on-host: more shared memory than the kernel asked for");
  return grid->shared.data();
}

void meet_block(const char* where) { meet(where, true); }
void meet_warp(const char* where) { meet(where, false); }

unsigned char* shown_by(int lane) {
  const int first = grid->running / lanes * lanes;
  return grid->shown.data() + static_cast<std::size_t>((first + lane) * show_bytes);
}

}  // namespace vfe::cuda::host
