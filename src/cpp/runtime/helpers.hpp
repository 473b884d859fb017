// Threads that work beside the caller's, for one call at a time. The only place that starts a thread.
//
// A new thread takes 50 microseconds to begin, since a processor that sleeps has to be woken, and often it is put
// where its caller is running and waits for that. Calls come in rows: so a helper that has done its work looks out for
// more, giving way to whoever else wants to run, then sleeps, and ends a second after. Nobody need know: nothing
// outlives that, helpers hold no lock while they wait, and a fork sends those that wait home. One that has not begun
// when its caller is through (others' threads may spin where it should) is no longer asked to.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace vfe::runtime {

struct Helper;

class Helpers {
 public:
  // Has body() run by up to `most` helpers: fewer where there are no more threads, or no memory for them, or where the
  // caller asks whether it is done before they have begun. It must not throw, and must live until it is done.
  template <class Body>
  Helpers(std::int64_t most, const Body& body)
      : Helpers(most, [](const void* context) { (*static_cast<const Body*>(context))(); }, &body) {}
  ~Helpers();
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  // True once those who have begun have done it; false if that takes longer. The others will not begin.
  bool done_within(std::chrono::milliseconds time);

 private:
  using Body = void (*)(const void* context);
  Helpers(std::int64_t most, Body body, const void* context);
  std::vector<std::shared_ptr<Helper>> busy_;
};

}  // namespace vfe::runtime
