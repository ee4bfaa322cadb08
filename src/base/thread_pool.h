// A pool for short parallel steps inside one forward pass: every worker runs the same function with its index, and
// steps are separated by barriers. Workers spin briefly and then sleep, so that an idle server uses no CPU.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace ponder {

class ThreadPool {
 public:
  /// `n_threads` >= 1, the caller of run() counts as thread 0.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return n_threads_; }

  /// Runs f(thread_index) on all threads and returns when every one is done. Not reentrant.
  void run(const std::function<void(int)>& f);

  /// Inside run(): waits until every thread of the pool is here. What was written before it is visible after it.
  void barrier();

 private:
  void worker(int index);

  const int n_threads_;
  const std::function<void(int)>* job_ = nullptr;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool quit_ = false;
  alignas(64) std::atomic<uint64_t> epoch_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint64_t> generation_{0};
};

/// The contiguous share of `count` items that belongs to `index` of `n`: shares differ by at most one item.
struct Share {
  int64_t begin, end;
};
inline Share share_of(int64_t count, int index, int n) { return {count * index / n, count * (index + 1) / n}; }

}  // namespace ponder
