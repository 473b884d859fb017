#include "helpers.hpp"

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace vfe::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto linger = std::chrono::microseconds(100);
constexpr auto look_out = std::chrono::microseconds(50);  // of a caller whose helpers are about to end

constexpr int unknown = -1;

// The processor that this thread is on.
int processor() {
#ifdef __linux__
  return sched_getcpu();
#else
  return unknown;
#endif
}

// Until the condition holds, or the time is over; whoever else wants to run on this processor may.
template <class Condition>
void watch(std::chrono::microseconds time, const Condition& condition) {
  const auto end = Clock::now() + time;
  while (!condition() && Clock::now() < end) {
    for (int k = 0; k < 16; ++k) {
      if (condition()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    std::this_thread::yield();
  }
}

}  // namespace

// Its caller owns what is not atomic, but for the time from `asked` to `idle`.
struct Helper {
  enum class State { asked, busy, idle, gone };

  void (*body)(const void*) = nullptr;
  const void* context = nullptr;
  std::fenv_t environment{};  // the caller's rounding, and what becomes of its subnormals
  std::atomic<State> state{State::asked};
  std::atomic<int> waits_on{unknown};  // the processor
  std::mutex mutex;                    // held when `state` becomes idle, for those who wait
  std::condition_variable done;

  void give(void (*work)(const void*), const void* of) {
    body = work;
    context = of;
    std::fegetenv(&environment);
  }
  bool becomes(State next, State from) { return state.compare_exchange_strong(from, next, std::memory_order_acq_rel); }
  bool is_busy() const { return state.load(std::memory_order_acquire) == State::busy; }

  void live() {
    while (becomes(State::busy, State::asked)) {
      std::fesetenv(&environment);
      body(context);
      {
        const std::lock_guard lock(mutex);
        state.store(State::idle, std::memory_order_release);
      }
      done.notify_one();
      watch(linger, [&] {
        waits_on.store(processor(), std::memory_order_relaxed);
        return state.load(std::memory_order_acquire) != State::idle;
      });
      if (becomes(State::gone, State::idle)) return;
    }
  }

  bool done_within(std::chrono::milliseconds time) {
    watch(look_out, [&] { return !is_busy(); });
    std::unique_lock lock(mutex);
    return done.wait_for(lock, time, [&] { return !is_busy(); });
  }
};

namespace {

// A thread of its own. The scheduler would often put it behind its caller, which goes on working: so it begins anywhere
// else, and may go where it likes from then on.
#ifdef __linux__
struct Start {
  std::shared_ptr<Helper> helper;
  cpu_set_t allowed;

  static void* run(void* given) {
    const std::unique_ptr<Start> start(static_cast<Start*>(given));
    sched_setaffinity(0, sizeof start->allowed, &start->allowed);
    start->helper->live();
    return nullptr;
  }
};

void start(const std::shared_ptr<Helper>& helper) {
  auto given = std::make_unique<Start>(helper);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (sched_getaffinity(0, sizeof given->allowed, &given->allowed) == 0) {
    cpu_set_t others = given->allowed;
    CPU_CLR(processor(), &others);
    if (CPU_COUNT(&others) > 0) pthread_attr_setaffinity_np(&attributes, sizeof others, &others);
  }
  pthread_t thread;
  const int problem = pthread_create(&thread, &attributes, Start::run, given.get());
  pthread_attr_destroy(&attributes);
  if (problem != 0) throw std::system_error(problem, std::generic_category());
  given.release();
  pthread_detach(thread);
}
#else
void start(const std::shared_ptr<Helper>& helper) {
  std::thread([helper] { helper->live(); }).detach();
}
#endif

// Helpers that wait for work, or have left since.
class Waiting {
 public:
  // Never destroyed: threads may be in kernels when a process ends.
  static Waiting& room() {
    static Waiting& only = *new Waiting;
    return only;
  }

  // One that takes the work, or null.
  std::shared_ptr<Helper> take(void (*body)(const void*), const void* context) {
    while (true) {
      std::shared_ptr<Helper> helper;
      {
        const std::lock_guard lock(mutex_);
        if (helpers_.empty()) return nullptr;
        helper = std::move(helpers_.back());
        helpers_.pop_back();
      }
      helper->give(body, context);
      // One that would have to share this processor is of no use.
      const int at = helper->waits_on.load(std::memory_order_relaxed);
      const bool in_the_way = at != unknown && at == processor();
      const auto next = in_the_way ? Helper::State::gone : Helper::State::asked;
      if (helper->becomes(next, Helper::State::idle) && !in_the_way) return helper;
    }
  }

  // More than there are processors would only be in each other's way.
  void put(std::shared_ptr<Helper> helper) {
    const std::lock_guard lock(mutex_);
    if (helpers_.size() >= room_for_) {
      helper->becomes(Helper::State::gone, Helper::State::idle);
    } else {
      helpers_.push_back(std::move(helper));
    }
  }

 private:
  Waiting() : room_for_(std::thread::hardware_concurrency()) {
    helpers_.reserve(room_for_);
#if defined(__unix__) || defined(__APPLE__)
    const auto before = [] {
      room().mutex_.lock();
      for (const auto& helper : room().helpers_) helper->becomes(Helper::State::gone, Helper::State::idle);
      room().helpers_.clear();
    };
    const auto after = [] { room().mutex_.unlock(); };
    pthread_atfork(before, after, after);
#endif
  }

  std::mutex mutex_;
  std::size_t room_for_;
  std::vector<std::shared_ptr<Helper>> helpers_;
};

}  // namespace

Helpers::Helpers(std::int64_t most, Body body, const void* context) {
  try {
    if (most > 0) busy_.reserve(static_cast<std::size_t>(most));
    for (std::int64_t k = 0; k < most; ++k) {
      std::shared_ptr<Helper> helper = Waiting::room().take(body, context);
      if (helper == nullptr) {
        helper = std::make_shared<Helper>();
        helper->give(body, context);
        start(helper);
      }
      busy_.push_back(std::move(helper));
    }
  } catch (const std::exception&) {
    // No more threads, or no memory for them: those there do the work.
  }
}

bool Helpers::done_within(std::chrono::milliseconds time) {
  while (!busy_.empty()) {
    // Who has not begun by now is not waited for.
    if (!busy_.back()->becomes(Helper::State::gone, Helper::State::asked)) {
      if (!busy_.back()->done_within(time)) return false;
      Waiting::room().put(std::move(busy_.back()));
    }
    busy_.pop_back();
  }
  return true;
}

Helpers::~Helpers() {
  while (!done_within(std::chrono::hours(1))) continue;
}

}  // namespace vfe::runtime
