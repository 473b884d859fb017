// What kernels have prepared from a model's parameters and may find again. The owner of the parameters
// owns one, and makes a new one for new parameters; only the kernel that made an entry knows what it is.
#pragma once

#include <mutex>
#include <vector>

namespace vfe::runtime {

class Cache {
 public:
  using Make = void* (*)(const void* context);
  using Destroy = void (*)(void* entry);

  Cache() = default;
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // The entry of `key`, made on first use; it lives as long as the cache.
  const void* find_or_make(const void* key, Make make, Destroy destroy, const void* context);

 private:
  struct Entry {
    const void* key;
    void* data;
    Destroy destroy;
  };
  const void* find(const void* key) const;

  std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace vfe::runtime
