// Who gets rows when; and the promise above all: whatever runs beside a sequence, its tokens are those of a lone run.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "engine/engine_rig.h"
#include "engine/random_rig.h"
#include "engine/scheduler.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

TEST(Scheduler, DecodeRowsComeFirst) {
  Scheduler scheduler({512, 32, 0.1});
  const std::vector<Work> work = {{1000, false, true, 0}, {1, true, true, 0}, {3, true, true, 0}, {1, true, true, 0}};
  const auto grants = scheduler.schedule(work);
  ASSERT_EQ(grants.size(), 4u);
  EXPECT_EQ(grants[1].rows, 1);
  EXPECT_EQ(grants[2].rows, 3);
  EXPECT_TRUE(grants[2].draw);
  EXPECT_FALSE(grants[0].draw);
  EXPECT_GT(grants[0].rows, 0);
}

TEST(Scheduler, PromptsShareEvenlyAndShortOnesFinish) {
  Scheduler scheduler({512, 32, 0.1});
  scheduler.measured(0, 100, 0.1);  // 1 ms a row: 400 rows in 4 * 0.1 s
  const auto grants =
      scheduler.schedule(std::vector<Work>{{1000, false, true, 0}, {10, false, true, 0}, {1000, false, true, 0}});
  ASSERT_EQ(grants.size(), 3u);
  EXPECT_EQ(grants[1].rows, 10);
  EXPECT_TRUE(grants[1].draw);
  EXPECT_NEAR(grants[0].rows, 195, 1);
  EXPECT_NEAR(grants[2].rows, 195, 1);
}

TEST(Scheduler, ChunksFollowTheMeasuredTime) {
  Scheduler scheduler({512, 32, 0.1});
  for (int i = 0; i < 20; ++i) scheduler.measured(4, 0, 0.05);
  for (int i = 0; i < 20; ++i) scheduler.measured(4, 50, 0.10);  // 1 ms per row beside 50 ms of decoding
  auto grants = scheduler.schedule(std::vector<Work>{{1000, false, true, 0}, {1, true, true, 0}});
  EXPECT_NEAR(grants[0].rows, 50, 2);
  for (int i = 0; i < 40; ++i) scheduler.measured(4, 10, 1.0);  // the machine became slow
  grants = scheduler.schedule(std::vector<Work>{{1000, false, true, 0}, {1, true, true, 0}});
  EXPECT_EQ(grants[0].rows, 16);
}

TEST(Scheduler, NobodyStarvesHoweverSmallTheBatch) {
  std::mt19937 rng(1);
  for (int round = 0; round < 300; ++round) {
    const SchedulerLimits limits{1 + int(rng() % 12), 1 + int(rng() % 6), 0.1};
    Scheduler scheduler(limits);
    std::vector<Work> work(1 + rng() % 10);
    for (Work& w : work) w = {1 + int(rng() % 40), rng() % 2 == 0, true, 0};
    std::vector<int> served(work.size(), 0);
    for (int turn = 0; turn < 3000; ++turn) {
      const auto grants = scheduler.schedule(work);
      ASSERT_FALSE(grants.empty());
      int rows = 0, draws = 0;
      for (const Grant& g : grants) {
        ASSERT_GE(g.rows, 1);
        ASSERT_LE(g.rows, work[g.index].pending);
        ASSERT_TRUE(!g.draw || g.rows == work[g.index].pending);
        ASSERT_TRUE(g.draw || g.rows < work[g.index].pending);
        rows += g.rows, draws += g.draw;
        work[g.index].last_turn = uint64_t(turn + 1);
        if (g.draw) {
          ++served[g.index];
          work[g.index] = {1 + int(rng() % 3), true, true, uint64_t(turn + 1)};
        } else {
          work[g.index].pending -= g.rows;
        }
      }
      ASSERT_LE(rows, limits.max_rows);
      ASSERT_LE(draws, limits.max_outputs);
    }
    for (size_t i = 0; i < work.size(); ++i)
      EXPECT_GE(served[i], 3) << "of " << work.size() << ", rows " << limits.max_rows << ", outputs "
                              << limits.max_outputs;
  }
}

TEST(Schedule, RunningSequencesGetATokenAtEveryStepOfALongPrefill) {
  EngineOptions options;
  options.context_length = 20000;
  options.target_step_seconds = 0.1;
  scripted::Options fake;
  fake.seconds_per_step = 0.02;
  fake.seconds_per_row = 0.001;
  Rig rig(count_up(), options, fake);
  Record talk, prompt;
  rig.submit(request({1}, talk));
  for (int i = 0; i < 20; ++i) rig.engine->step();
  rig.submit(request(Tokens(5000, 3), prompt, 1));
  double longest = 0;
  while (prompt.finished.empty()) {
    const size_t before = talk.events.size();
    const double begin = rig.plan->now();
    rig.engine->step();
    EXPECT_EQ(talk.events.size(), before + 1);
    longest = std::max(longest, rig.plan->now() - begin);
  }
  EXPECT_LT(longest, 0.13);
  const double chunk = 5000.0 / double(prompt.progress.size());
  EXPECT_GT(chunk, 60);  // (0.1 - 0.02) / 0.001 = 80 once measured
  EXPECT_LT(chunk, 90);
  for (size_t i = 1; i < prompt.progress.size(); ++i) EXPECT_GT(prompt.progress[i].done, prompt.progress[i - 1].done);
  EXPECT_EQ(prompt.progress.back().done, 5000);
}

TEST(Schedule, AShortPromptDoesNotWaitForALongOne) {
  EngineOptions options;
  options.context_length = 20000;
  scripted::Options fake;
  fake.seconds_per_row = 0.001;
  Rig rig(count_up(), options, fake);
  Record large, small;
  rig.submit(request(Tokens(8000, 3), large, 1));
  rig.engine->step();
  rig.engine->step();
  rig.submit(request(Tokens(100, 4), small, 1));
  rig.run();
  EXPECT_LT(small.finished[0].stats.queue_seconds + small.finished[0].stats.prefill_seconds, 1.3);
  EXPECT_GT(large.finished[0].stats.prefill_seconds, 7);
}

TEST(Schedule, EverySequenceIsAsIfAlone) {
  for (uint32_t round = 0; round < 40; ++round) {
    std::mt19937 rng(round);
    EngineOptions options;
    options.context_length = 600;
    options.max_sequences = 1 + int(rng() % 12);
    options.max_batch_rows = round % 5 == 0 ? 1 + int(rng() % 8) : 16 + int(rng() % 300);
    options.max_output_rows = 1 + int(rng() % 16);
    options.prefix_cache = rng() % 4 != 0;
    options.target_step_seconds = double(rng() % 100) / 1000;
    scripted::Options fake;
    fake.seconds_per_step = 0.01;
    fake.seconds_per_row = 0.0005;
    const int64_t kv_tokens = 64 * (10 + int64_t(rng() % 40));  // often too little for all
    Rig rig(scripted::scramble(77), options, fake, kv_tokens);
    const int n = 25;
    std::vector<Record> records(n);
    std::vector<SequenceId> ids(n);
    std::vector<bool> cancelled(n, false);
    for (int i = 0; i < n;) {
      if (rng() % 3 == 0) {
        ids[size_t(i)] = rig.submit(random_request(round * 1000 + uint32_t(i), records[size_t(i)]));
        ++i;
      }
      rig.engine->step();
      if (i > 0 && rng() % 40 == 0) {
        const size_t victim = rng() % size_t(i);
        if (records[victim].finished.empty()) {
          cancelled[victim] = true;
          rig.engine->cancel(ids[victim]);
        }
      }
    }
    rig.run();
    for (int i = 0; i < n; ++i) {
      Record alone;
      EngineOptions simple;
      simple.context_length = 600;
      Rig other(scripted::scramble(77), simple);
      other.submit(random_request(round * 1000 + uint32_t(i), alone));
      other.run();
      const Record& r = records[size_t(i)];
      if (cancelled[size_t(i)]) {
        EXPECT_EQ(r.reason(), finish::kCancelled);
        ASSERT_LE(r.events.size(), alone.events.size());
        for (size_t k = 0; k < r.events.size(); ++k) ASSERT_EQ(r.events[k].token, alone.events[k].token);
      } else {
        expect_same(r, alone, round * 1000 + uint32_t(i));
      }
    }
    rig.engine->step();
    EXPECT_TRUE(rig.engine->status().idle());
  }
}

// A sink for other threads: blocks until the end.
struct Awaited {
  std::mutex mutex;
  std::condition_variable changed;
  Record record;
  bool done = false;

  Sink sink() {
    Sink s = sink_to(record);
    s.on_token = [this](const TokenEvent& e) {
      std::lock_guard lock(mutex);
      record.events.push_back(e);
      changed.notify_all();
    };
    s.on_finish = [this](const Finished& f) {
      std::lock_guard lock(mutex);
      record.finished.push_back(f);
      done = true;
      changed.notify_all();
    };
    return s;
  }
  void wait() {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [this] { return done; }));
  }
  void wait_tokens(size_t n) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return record.events.size() >= n || done; }));
  }
};

TEST(Threads, ManyClientsAtOnce) {
  EngineOptions options;
  options.context_length = 600;
  options.max_sequences = 6;
  options.clock = [] { return 0.0; };
  Rig rig(scripted::scramble(5), options, {}, 64 * 30);
  rig.engine->start();
  constexpr int kClients = 4, kEach = 10;
  std::vector<std::unique_ptr<Awaited>> all(kClients * kEach);
  for (auto& a : all) a = std::make_unique<Awaited>();
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < kEach; ++i) {
        Awaited& a = *all[size_t(c * kEach + i)];
        auto r = random_request(uint32_t(c * 100 + i), a.record);
        r.sink = a.sink();
        const auto id = rig.engine->submit(std::move(r));
        ASSERT_TRUE(id.ok());
        (void)rig.engine->status().running;
        if (i % 3 == 2) rig.engine->cancel(*id);
        if (i % 2 == 1) a.wait();
      }
    });
  }
  for (auto& t : clients) t.join();
  for (auto& a : all) a->wait();
  for (int c = 0; c < kClients; ++c) {
    for (int i = 0; i < kEach; ++i) {
      const Record& r = all[size_t(c * kEach + i)]->record;
      if (i % 3 == 2) continue;
      Record alone;
      EngineOptions simple;
      simple.context_length = 600;
      Rig other(scripted::scramble(5), simple);
      other.submit(random_request(uint32_t(c * 100 + i), alone));
      other.run();
      expect_same(r, alone, uint32_t(c * 100 + i));
    }
  }
}

TEST(Threads, ACancelEndsABatchInFlight) {
  std::atomic<int> layers{0};
  scripted::Options slow;
  slow.n_layers = 1000;
  slow.on_layer = [&](int) {
    ++layers;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // two seconds for a batch
  };
  EngineOptions options;
  options.clock = [] { return 0.0; };
  Rig rig(count_up(), options, slow);
  rig.engine->start();
  Awaited a;
  SequenceRequest r = request({1, 2, 3}, a.record);
  r.sink = a.sink();
  const auto id = rig.engine->submit(std::move(r));
  ASSERT_TRUE(id.ok());
  while (layers < 5) std::this_thread::yield();
  const auto begin = std::chrono::steady_clock::now();
  rig.engine->cancel(*id);
  a.wait();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(250));
  EXPECT_EQ(a.record.reason(), finish::kCancelled);
  EXPECT_EQ(a.record.events.size(), 0u);
}

TEST(Threads, DestructorEndsWhatRunsAndJoins) {
  for (int round = 0; round < 20; ++round) {
    Awaited running, waiting;
    EngineOptions options;
    options.max_sequences = 1;
    options.context_length = 1 << 20;
    options.prefix_cache = false;
    options.clock = [] { return 0.0; };
    scripted::Options script;
    Rig rig(scripted::say([](std::span<const TokenId>) { return 1; }), options, script, 1 << 20);
    rig.engine->start();
    for (Awaited* a : {&running, &waiting}) {
      SequenceRequest r = request({1}, a->record);
      r.sink = a->sink();
      ASSERT_TRUE(rig.engine->submit(std::move(r)).ok());
    }
    if (round % 2) running.wait_tokens(5);
    rig.engine.reset();
    EXPECT_TRUE(running.done && waiting.done);
    EXPECT_EQ(running.record.reason(), finish::kCancelled);
    EXPECT_EQ(waiting.record.reason(), finish::kCancelled);
  }
}

}  // namespace
}  // namespace ponder::engine
