#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

#include "base/os/system.h"

namespace ponder {
namespace {

TEST(ThreadPool, RunsEveryIndexOnceAndBarriersOrderWrites) {
  for (int n : {1, 2, 3, 7}) {
    ThreadPool pool(n);
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<int> first(n), second(n);
      pool.run([&](int i) {
        first[i] = i + 1;
        pool.barrier();
        second[i] = std::accumulate(first.begin(), first.end(), 0);
        pool.barrier();
        first[i] = 0;
      });
      for (int v : second) ASSERT_EQ(v, n * (n + 1) / 2);
    }
  }
}

TEST(ThreadPool, WakesAfterSleeping) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    std::atomic<int> n{0};
    pool.run([&](int) { n++; });
    ASSERT_EQ(n, 2);
  }
}

TEST(ThreadPool, UsesNoProcessorTimeWhileIdle) {
  ThreadPool pool(4);
  pool.run([](int) {});
  // On a busy machine it takes a while until every worker had the processor for its last spins.
  double used = 1;
  for (int i = 0; i < 100 && used > 0.001; ++i) {
    const double before = os::cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    used = os::cpu_seconds() - before;
  }
  EXPECT_LE(used, 0.001);
}

TEST(Share, CoversEverythingOnce) {
  for (int64_t count : {0, 1, 5, 64, 1001})
    for (int n : {1, 2, 3, 16}) {
      int64_t next = 0;
      for (int i = 0; i < n; ++i) {
        const Share s = share_of(count, i, n);
        ASSERT_EQ(s.begin, next);
        next = s.end;
      }
      ASSERT_EQ(next, count);
    }
}

}  // namespace
}  // namespace ponder
