// Spin, then yield, then sleep: a decode step has some 150 barriers in 30 ms, so waiting must not cost a system call,
// but a machine with other work must not be starved either (a spinning pool next to a busy process halves both).
#include "base/thread_pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ponder {
namespace {

constexpr int kSpins = 4000;  // about 50-100 us: longer than the gap between two steps of a decode
constexpr int kYields = 200;

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until done() holds, without ever sleeping for long; returns false when patience ran out (only with `give_up`).
template <class Done>
bool spin_until(const Done& done, bool give_up) {
  for (int i = 0;; ++i) {
    if (done()) return true;
    if (i < kSpins) {
      relax();
    } else if (give_up && i > kSpins + kYields) {
      return false;
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : n_threads_(n_threads < 1 ? 1 : n_threads) {
  for (int i = 1; i < n_threads_; ++i) threads_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
    epoch_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (auto& t : threads_) t.join();
}

void ThreadPool::worker(int index) {
  uint64_t seen = 0;
  for (;;) {
    const auto changed = [&] { return epoch_.load(std::memory_order_acquire) != seen; };
    if (!spin_until(changed, true)) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, changed);
    }
    seen = epoch_.load(std::memory_order_acquire);
    {
      std::lock_guard lock(mutex_);
      if (quit_) return;
    }
    (*job_)(index);
    running_.fetch_sub(1, std::memory_order_acq_rel);
  }
}

void ThreadPool::run(const std::function<void(int)>& f) {
  if (n_threads_ == 1) {
    f(0);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    job_ = &f;
    running_.store(n_threads_ - 1, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  f(0);
  spin_until([&] { return running_.load(std::memory_order_acquire) == 0; }, false);
}

void ThreadPool::barrier() {
  if (n_threads_ == 1) return;
  const uint64_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == n_threads_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
  } else {
    spin_until([&] { return generation_.load(std::memory_order_acquire) != generation; }, false);
  }
}

}  // namespace ponder
