#include "pages.hpp"

#include <array>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace vfe::runtime {

#ifdef __linux__
namespace {

constexpr std::size_t page = std::size_t{1} << 21;         // a large one
constexpr std::size_t most_kept = std::size_t{128} << 20;  // bytes in all
constexpr std::size_t most_blocks = 32;

struct Block {
  void* data;
  std::size_t bytes;
};

// The last given is the first to be taken, since it may still be in a cache; the first given goes back to the system.
struct Kept {
  std::mutex mutex;
  std::array<Block, most_blocks> blocks;
  std::size_t n = 0, bytes = 0;

  void* take(std::size_t wanted) {
    for (std::size_t k = n; k-- > 0;) {
      if (blocks[k].bytes == wanted) return remove(k);
    }
    return nullptr;
  }
  void keep(Block block) {
    while (n == most_blocks || bytes + block.bytes > most_kept) {
      const std::size_t size = blocks[0].bytes;
      munmap(remove(0), size);
    }
    blocks[n++] = block;
    bytes += block.bytes;
  }
  void* remove(std::size_t k) {
    const Block block = blocks[k];
    for (; k + 1 < n; ++k) blocks[k] = blocks[k + 1];
    --n;
    bytes -= block.bytes;
    return block.data;
  }
};

// Never destroyed: results may outlive everything else.
Kept& kept() {
  static auto* const all = new Kept;
  return *all;
}

std::size_t in_pages(std::size_t bytes) { return (bytes + page - 1) / page * page; }

}  // namespace

void* take_pages(std::size_t bytes) {
  const std::size_t wanted = in_pages(bytes);
  {
    // A fork may have left it locked for ever: then nothing is kept.
    const std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (lock.owns_lock()) {
      if (void* found = kept().take(wanted)) return found;
    }
  }
  void* data = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  madvise(data, wanted, MADV_HUGEPAGE);
  return data;
}

void give_pages(void* data, std::size_t bytes) noexcept {
  const std::size_t given = in_pages(bytes);
  if (given <= most_kept && madvise(data, given, MADV_FREE) == 0) {
    const std::unique_lock lock(kept().mutex, std::try_to_lock);
    if (lock.owns_lock()) return kept().keep({data, given});
  }
  munmap(data, given);
}
#else
void* take_pages(std::size_t bytes) { return ::operator new(bytes, std::align_val_t{64}); }
void give_pages(void* data, std::size_t) noexcept { ::operator delete(data, std::align_val_t{64}); }
#endif

}  // namespace vfe::runtime
