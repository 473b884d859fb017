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
#include <signal.h>
#endif
#ifdef __linux__
#include <sched.h>
#include <time.h>
#endif

namespace vfe::runtime {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto linger = std::chrono::microseconds(100);   // awake
constexpr auto stay = std::chrono::seconds(1);            // asleep
constexpr long farewell = 20'000'000;                     // nanoseconds that a fork waits for those it sends home
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

#ifdef __linux__
// Any processor but the caller's, which goes on working: the scheduler would often put a thread that begins or wakes
// behind it. Once there, the thread may go where it likes.
class Elsewhere {
 public:
  template <class Send>
  void send(const Send& to) {
    if (sched_getaffinity(0, sizeof allowed_, &allowed_) != 0) return;
    cpu_set_t others = allowed_;
    CPU_CLR(processor(), &others);
    sent_ = CPU_COUNT(&others) > 0;
    to(sent_ ? others : allowed_);
  }
  void arrive() {
    if (sent_) sched_setaffinity(0, sizeof allowed_, &allowed_);
    sent_ = false;
  }

 private:
  cpu_set_t allowed_{};
  bool sent_ = false;
};
#endif

}  // namespace

// Its caller owns what is not atomic, but for the time from `asked` to `idle`.
struct Helper {
  enum class State { asked, busy, idle, gone, sent_home };  // the last by a fork, which waits for it

  void (*body)(const void*) = nullptr;
  const void* context = nullptr;
  std::fenv_t environment{};  // the caller's rounding, and what becomes of its subnormals
#ifdef __linux__
  pthread_t thread{};
  Elsewhere elsewhere;
#endif
  std::atomic<State> state{State::asked};
  std::atomic<int> waits_on{unknown};  // the processor
  std::mutex mutex;                    // held when those who wait for `state` would miss that it changes
  bool asleep = false;                 // likewise
  std::condition_variable done, wanted;

  void give(void (*function)(const void*), const void* of) {
    body = function;
    context = of;
    std::fegetenv(&environment);
  }
  bool becomes(State next, State from) { return state.compare_exchange_strong(from, next, std::memory_order_acq_rel); }
  bool is(State what) const { return state.load(std::memory_order_acquire) == what; }

  void live() {
    while (!is(State::gone) && !is(State::sent_home)) {
      if (becomes(State::busy, State::asked)) work();
      watch(linger, [&] {
        waits_on.store(processor(), std::memory_order_relaxed);
        return !is(State::idle);
      });
      std::unique_lock lock(mutex);
      asleep = true;
      wanted.wait_for(lock, stay, [&] { return !is(State::idle); });
      asleep = false;
      becomes(State::gone, State::idle);
    }
#ifdef __linux__
    if (is(State::gone)) pthread_detach(pthread_self());
#endif
  }

  void work() {
#ifdef __linux__
    elsewhere.arrive();
#endif
    std::fesetenv(&environment);
    body(context);
    {
      const std::lock_guard lock(mutex);
      state.store(State::idle, std::memory_order_release);
    }
    done.notify_one();
  }

  // Of one that is idle: false if it has left, or is of no use, since it would have to share this processor.
  bool takes(void (*function)(const void*), const void* of) {
    give(function, of);
    const std::lock_guard lock(mutex);
    const int at = waits_on.load(std::memory_order_relaxed);
    const bool in_the_way = !asleep && at != unknown && at == processor();
#ifdef __linux__
    const auto wakes_there = [&](const cpu_set_t& others) { pthread_setaffinity_np(thread, sizeof others, &others); };
    if (asleep && is(State::idle)) elsewhere.send(wakes_there);
#endif
    const bool is_there = becomes(in_the_way ? State::gone : State::asked, State::idle);
    wanted.notify_one();
    return is_there && !in_the_way;
  }

  bool leave(State how = State::gone) {
    const std::lock_guard lock(mutex);
    const bool was_idle = becomes(how, State::idle);
    wanted.notify_one();
    return was_idle;
  }

  // After which the system, too, no longer knows the thread, unless it takes long to end.
  void leave_at_once() {
    if (!leave(State::sent_home)) return;
#ifdef __linux__
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += farewell;
    until.tv_sec += until.tv_nsec / 1'000'000'000;
    until.tv_nsec %= 1'000'000'000;
    if (pthread_timedjoin_np(thread, nullptr, &until) != 0) pthread_detach(thread);
#endif
  }

  bool done_within(std::chrono::milliseconds time) {
    const auto is_done = [&] { return !is(State::busy); };
    watch(look_out, is_done);
    std::unique_lock lock(mutex);
    return done.wait_for(lock, time, is_done);
  }
};

namespace {

// Signals are for the threads of the program: one that they block must not come to a helper instead. A thread that
// begins has its maker's mask. Its own faults it may show.
class WithoutSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  WithoutSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~WithoutSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  WithoutSignals(const WithoutSignals&) = delete;
  WithoutSignals& operator=(const WithoutSignals&) = delete;

 private:
  sigset_t before_{};
#endif
};

void start(const std::shared_ptr<Helper>& helper) {
  const WithoutSignals masked;
#ifdef __linux__
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  helper->elsewhere.send(
      [&](const cpu_set_t& others) { pthread_attr_setaffinity_np(&attributes, sizeof others, &others); });
  const auto run = [](void* given) -> void* {
    const std::unique_ptr<std::shared_ptr<Helper>> self(static_cast<std::shared_ptr<Helper>*>(given));
    (*self)->live();
    return nullptr;
  };
  auto given = std::make_unique<std::shared_ptr<Helper>>(helper);
  const int problem = pthread_create(&helper->thread, &attributes, run, given.get());
  pthread_attr_destroy(&attributes);
  if (problem != 0) throw std::system_error(problem, std::generic_category());
  given.release();
#else
  std::thread([helper] { helper->live(); }).detach();
#endif
}

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
      if (helper->takes(body, context)) return helper;
    }
  }

  // More than there are processors would only be in each other's way.
  void put(std::shared_ptr<Helper> helper) {
    const std::lock_guard lock(mutex_);
    if (helpers_.size() >= room_for_) {
      helper->leave();
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
      for (const auto& helper : room().helpers_) helper->leave_at_once();
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
    Helper& helper = *busy_.back();
    if (!helper.becomes(Helper::State::idle, Helper::State::asked) && !helper.done_within(time)) return false;
    Waiting::room().put(std::move(busy_.back()));
    busy_.pop_back();
  }
  return true;
}

Helpers::~Helpers() {
  while (!done_within(std::chrono::hours(1))) continue;
}

}  // namespace vfe::runtime
