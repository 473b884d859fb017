// What kernels have prepared from a model's parameters and may find again. The owner of the parameters
// owns one, and makes a new one for new parameters; only the kernel that made an entry knows what it is. What depends
// on the weights alone is kept apart, and shared by caches of parameters that differ in their biases.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

namespace vfe::runtime {

class Entries {
 public:
  using Make = void* (*)(const void* context);
  using Destroy = void (*)(void* entry);

  Entries();
  ~Entries();
  Entries(const Entries&) = delete;
  Entries& operator=(const Entries&) = delete;

  // The entry of `key`, made on first use; it lives as long as these do.
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

class Cache {
 public:
  Cache();
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  // A cache for the same weights with other biases.
  std::unique_ptr<Cache> with_other_biases() const;

  Entries& of_parameters() { return own_; }
  Entries& of_weights() { return *shared_; }

 private:
  explicit Cache(std::shared_ptr<Entries> of_same_weights);

  Entries own_;
  std::shared_ptr<Entries> shared_;
};

}  // namespace vfe::runtime
