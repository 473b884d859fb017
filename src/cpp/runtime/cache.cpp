#include "cache.hpp"

#include <utility>

namespace vfe::runtime {

Entries::Entries() = default;

Entries::~Entries() {
  for (const Entry& entry : entries_) entry.destroy(entry.data);
}

const void* Entries::find(const void* key) const {
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.data;
  }
  return nullptr;
}

const void* Entries::find_or_make(const void* key, Make make, Destroy destroy, const void* context) {
  {
    const std::lock_guard lock(mutex_);
    if (const void* found = find(key)) return found;
  }
  // Made without the lock: a signal handler may ask for the same entry meanwhile. The first one stays.
  void* data = make(context);
  const std::lock_guard lock(mutex_);
  if (const void* found = find(key)) {
    destroy(data);
    return found;
  }
  try {
    entries_.push_back({key, data, destroy});
  } catch (...) {
    destroy(data);
    throw;
  }
  return data;
}

Cache::Cache() : shared_(std::make_shared<Entries>()) {}
Cache::Cache(std::shared_ptr<Entries> of_same_weights) : shared_(std::move(of_same_weights)) {}
Cache::~Cache() = default;

std::unique_ptr<Cache> Cache::with_other_biases() const { return std::unique_ptr<Cache>(new Cache(shared_)); }

}  // namespace vfe::runtime
