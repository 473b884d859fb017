#include "threads.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

#include "errors.hpp"
#include "helpers.hpp"

namespace vfe::runtime {
namespace {

constexpr double nanoseconds_per_thread = 6e4;                   // below this one that has yet to begin saves nothing
constexpr double nanoseconds_per_helper = 2e4;                   // nor one that is there, from the call before
constexpr auto row_of_calls = std::chrono::microseconds(100);    // apart at most: helpers linger as long
thread_local std::chrono::steady_clock::time_point last_call{};  // its end
constexpr auto poll_interval = std::chrono::milliseconds(50);
constexpr int max_threads = 1024;

// What the threads of one parallel_for share.
struct Loop {
  std::atomic<std::int64_t> next_task{0};
  std::atomic<bool> stop{false};
  std::atomic<bool> interrupted{false};
  std::mutex mutex;  // guards the member below
  std::exception_ptr error;
};

thread_local InterruptPoll interrupt_poll = nullptr;
thread_local Loop* current_loop = nullptr;
thread_local bool is_caller = false;
thread_local std::chrono::steady_clock::time_point next_poll;

// On the calling thread only: asks whether to stop, at most every poll_interval.
void poll_caller(Loop& loop) {
  const auto now = std::chrono::steady_clock::now();
  if (interrupt_poll == nullptr || now < next_poll) return;
  next_poll = now + poll_interval;
  if (interrupt_poll()) {
    loop.interrupted.store(true, std::memory_order_relaxed);
    loop.stop.store(true, std::memory_order_relaxed);
  }
}

// A signal handler may call a kernel while one is running: what it changes is put back.
template <class T>
class Restored {
 public:
  Restored(T& variable, T value) : variable_(variable), before_(variable) { variable = value; }
  ~Restored() { variable_ = before_; }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  T& variable_;
  T before_;
};

// What a thread of the loop does, and what becomes of its exceptions.
template <class Work>
void run_guarded(Loop& loop, const Work& work) {
  const Restored<Loop*> loop_of_thread(current_loop, &loop);
  try {
    work();
  } catch (const Interrupted&) {
  } catch (...) {
    const std::lock_guard lock(loop.mutex);
    if (!loop.error) loop.error = std::current_exception();
    loop.stop.store(true, std::memory_order_relaxed);
  }
}

// Runs `work` on up to n_threads - 1 helpers and on this thread.
template <class Work>
void run_on_threads(Loop& loop, std::int64_t n_threads, const Work& work) {
  const auto guarded = [&] { run_guarded(loop, work); };
  Helpers helpers(n_threads - 1, guarded);
  const Restored<bool> caller(is_caller, true);
  next_poll = std::chrono::steady_clock::now() + poll_interval;
  guarded();
  // Out of work before its helpers, the caller goes on listening for a signal.
  while (!helpers.done_within(poll_interval)) poll_caller(loop);
  last_call = std::chrono::steady_clock::now();
  if (loop.interrupted.load()) throw Interrupted();
  if (loop.error) std::rethrow_exception(loop.error);
}

int cores_of_this_process() {
#ifdef __linux__
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return CPU_COUNT(&cores);
#endif
  const unsigned count = std::thread::hardware_concurrency();
  return count > 0 ? static_cast<int>(count) : 1;
}

}  // namespace

int checked_threads(int requested) {
  if (requested < 0 || requested > max_threads) {
    throw ArgumentError("num_threads: expected 1 <= num_threads <= " + std::to_string(max_threads) + ", got " +
                        std::to_string(requested));
  }
  if (requested > 0) return requested;
  if (const char* text = std::getenv("VFE_NUM_THREADS"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > max_threads) {
      throw ArgumentError("VFE_NUM_THREADS: expected a whole number from 1 to " + std::to_string(max_threads) +
                          ", got '" + text + "'");
    }
    return static_cast<int>(value);
  }
  return 0;
}

int threads_worth(double nanoseconds, int num_threads) {
  if (nanoseconds < 2 * nanoseconds_per_helper) return 1;
  const bool in_row = std::chrono::steady_clock::now() - last_call < row_of_calls;
  const double worth = nanoseconds / (in_row ? nanoseconds_per_helper : nanoseconds_per_thread);
  if (worth < 2) return 1;
  const int limit = num_threads > 0 ? num_threads : cores_of_this_process();
  return worth < limit ? static_cast<int>(worth) : limit;
}

std::int64_t items_per_task(std::int64_t n_items, std::int64_t max_items, double nanoseconds, int num_threads) {
  const std::int64_t n_threads = threads_worth(nanoseconds, num_threads);
  const std::int64_t share = (n_items + n_threads - 1) / n_threads;
  const std::int64_t n_tasks = n_threads * ((share + max_items - 1) / max_items);
  return n_items > 0 ? (n_items + n_tasks - 1) / n_tasks : 1;
}

void parallel_for(std::int64_t n_tasks, double nanoseconds, int num_threads, TaskBody body, const void* context) {
  Loop loop;
  const std::int64_t worth = threads_worth(nanoseconds, num_threads), n_threads = worth < n_tasks ? worth : n_tasks;
  // Tasks done at the same time are far apart: those of neighbors write to the same cache lines.
  const auto far_apart = [&](std::int64_t k) {
    const std::int64_t part = k % n_threads, longer = n_tasks % n_threads;
    return part * (n_tasks / n_threads) + (part < longer ? part : longer) + k / n_threads;
  };
  const auto work = [&] {
    while (true) {
      const std::int64_t k = loop.next_task.fetch_add(1, std::memory_order_relaxed);
      if (k >= n_tasks || loop.stop.load(std::memory_order_relaxed)) break;
      check_interrupt();
      body(context, far_apart(k));
    }
  };
  run_on_threads(loop, n_threads, work);
}

struct Team {
  std::int64_t size;
  std::atomic<std::int64_t> next_rank{0}, done{0};    // tasks of all rounds
  std::vector<std::atomic<std::int64_t>> last_round;  // in which somebody took the task

  Team(std::int64_t n_threads, std::int64_t max_tasks)
      : size(n_threads), last_round(static_cast<std::size_t>(max_tasks)) {}
  Member member() { return {*this, next_rank.fetch_add(1, std::memory_order_relaxed)}; }
};

std::int64_t Member::next(std::int64_t n_tasks) {
  if (busy_) team_.done.fetch_add(1, std::memory_order_release);
  busy_ = false;
  const std::int64_t first = n_tasks * rank_ / team_.size;
  for (; looked_at_ < n_tasks; ++looked_at_) {
    const std::int64_t task = (first + looked_at_) % n_tasks;
    auto& last_round = team_.last_round[static_cast<std::size_t>(task)];
    std::int64_t seen = last_round.load(std::memory_order_relaxed);
    if (seen >= round_ || !last_round.compare_exchange_strong(seen, round_, std::memory_order_relaxed)) continue;
    busy_ = true;
    return task;
  }
  done_before_ += n_tasks;
  constexpr int spins_before_yield = 4096;  // some microseconds
  for (int spins = 0; team_.done.load(std::memory_order_acquire) < done_before_; ++spins) {
    if (spins < spins_before_yield) continue;
    check_interrupt();
    std::this_thread::yield();
  }
  looked_at_ = 0;
  ++round_;
  return -1;
}

void parallel_team(std::int64_t n_threads, std::int64_t max_tasks, TeamBody body, const void* context) {
  Team team(n_threads, max_tasks);
  if (n_threads == 1 && current_loop != nullptr) {  // within a task of parallel_for, which listens for signals
    Member alone = team.member();
    return body(context, alone);
  }
  Loop loop;
  const auto work = [&] {
    Member member = team.member();
    body(context, member);
  };
  run_on_threads(loop, n_threads, work);
}

void check_interrupt() {
  Loop* loop = current_loop;
  if (loop == nullptr) return;
  if (is_caller) poll_caller(*loop);
  if (loop->stop.load(std::memory_order_relaxed)) throw Interrupted();
}

PollScope::PollScope(InterruptPoll poll) : before_(interrupt_poll) { interrupt_poll = poll; }
PollScope::~PollScope() { interrupt_poll = before_; }

}  // namespace vfe::runtime
