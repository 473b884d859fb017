#include "cache.hpp"

namespace vfe::runtime {

Cache::~Cache() {
  for (const Entry& entry : entries_) entry.destroy(entry.data);
}

const void* Cache::find_or_make(const void* key, Make make, Destroy destroy, const void* context) {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.data;
  }
  entries_.reserve(entries_.size() + 1);
  entries_.push_back({key, make(context), destroy});
  return entries_.back().data;
}

}  // namespace vfe::runtime
