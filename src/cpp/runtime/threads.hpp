// Parallel loops and the way out of them.
//
// Work is split in tasks whose results do not depend on who runs them: the caller, and helpers (helpers.hpp) that are
// gone a second after the call.
#pragma once

#include <cstdint>

namespace vfe::runtime {

struct Team;

// Kernels take num_threads >= 1, or 0 for the cores this process may use, which are counted when there is
// work for more than one. Here 0 stands for VFE_NUM_THREADS if that is set.
int checked_threads(int requested);

// Threads worth starting for `nanoseconds` of work on one core, at most num_threads.
int threads_worth(double nanoseconds, int num_threads);

// Items a task, at most max_items, such that those threads get the same number of tasks.
std::int64_t items_per_task(std::int64_t n_items, std::int64_t max_items, double nanoseconds, int num_threads);

// Runs body(context, task) for every task in [0, n_tasks) on the threads worth starting for the whole
// call's `nanoseconds`, roughly known. Throws Interrupted when the caller's poll
// says so, else the first exception of a task. A task must not call parallel_for itself, nor
// parallel_team for more than one thread.
using TaskBody = void (*)(const void* context, std::int64_t task);
void parallel_for(std::int64_t n_tasks, double nanoseconds, int num_threads, TaskBody body, const void* context);

template <class Body>
void parallel_for(std::int64_t n_tasks, double nanoseconds, int num_threads, const Body& body) {
  parallel_for(
      n_tasks, nanoseconds, num_threads,
      [](const void* context, std::int64_t task) { (*static_cast<const Body*>(context))(task); }, &body);
}

// One of the threads that go through the same rounds of tasks together. A round ends when its tasks are
// done, whoever did them: a member that comes late, or is kept from running, is not waited for.
class Member {
 public:
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  // The next task in [0, n_tasks) of this round for this member: its own share first, the same in each round, so that
  // what it needs stays in its cache. Counts the one before as done. -1 ends the round: all tasks are done. Throws
  // Interrupted as check_interrupt() does.
  std::int64_t next(std::int64_t n_tasks);

 private:
  friend struct Team;
  Member(Team& team, std::int64_t rank) : team_(team), rank_(rank) {}
  Team& team_;
  std::int64_t rank_, round_ = 1, looked_at_ = 0, done_before_ = 0;
  bool busy_ = false;
};

// Runs body(context, member) on at most n_threads threads at the same time; rounds have at most max_tasks tasks.
using TeamBody = void (*)(const void* context, Member& member);
void parallel_team(std::int64_t n_threads, std::int64_t max_tasks, TeamBody body, const void* context);

template <class Body>
void parallel_team(std::int64_t n_threads, std::int64_t max_tasks, const Body& body) {
  parallel_team(
      n_threads, max_tasks, [](const void* context, Member& member) { (*static_cast<const Body*>(context))(member); },
      &body);
}

// Called by kernels between units of work of at most some milliseconds; throws Interrupted when the
// loop is to end. Cheap: one relaxed load, and a clock on the calling thread.
void check_interrupt();

// How the calling thread learns that it is to stop: returns true if so. Null where nobody would know,
// and nothing is asked. Set by the bindings around each call, for the thread they are on.
using InterruptPoll = bool (*)();
class PollScope {
 public:
  explicit PollScope(InterruptPoll poll);
  ~PollScope();
  PollScope(const PollScope&) = delete;
  PollScope& operator=(const PollScope&) = delete;

 private:
  InterruptPoll before_;
};

}  // namespace vfe::runtime
