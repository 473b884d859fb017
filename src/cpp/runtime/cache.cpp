#include "cache.hpp"

namespace vfe::runtime {

Cache::~Cache() {
  for (const Entry& entry : entries_) entry.destroy(entry.data);
}

const void* Cache::find(const void* key) const {
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.data;
  }
  return nullptr;
}

const void* Cache::find_or_make(const void* key, Make make, Destroy destroy, const void* context) {
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

}  // namespace vfe::runtime
