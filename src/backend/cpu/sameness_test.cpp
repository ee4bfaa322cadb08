// The promise of docs/numerics.md, whole: the logits of a sequence are the same bits whatever else is in the batch (1,
// 2, 8, 16 sequences), however its prompt was cut (1, 7, 64, 512), on 1 or 2 threads, from a cold start or on pages
// found in the prefix index, at every instruction set, in every precision and KV format. On synthetic models that have
// grouped heads, odd tails, heads of 64, 96 and 128, biases, pairs RoPE, q/k norms and a tied head.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/test_sameness.h"
#include "backend/cpu/test_models.h"

namespace ponder::backend::cpu {
namespace {

// Every combination at the fastest level; at the others a sample that touches every value (they share all code but the
// kernels, whose equality linear_test and vector_test prove piece by piece).
void check(const Named& m, Precision precision, KvFormat kv) {
  ASSERT_NE(m.model, nullptr) << m.name;
  Logits want;
  const auto compare = [&](Runner& r, Case c) {
    r.set_case(c);
    const Logits got = r.story();
    if (want.empty()) {
      want = got;
      ASSERT_GE(want.size(), size_t(kGenerated + 3));
      for (float x : want.rbegin()->second) ASSERT_TRUE(std::isfinite(x));
      ASSERT_NE(want.begin()->second, want.rbegin()->second);
    }
    expect_same(want, got, want.size(), std::string(m.name) + " " + name_of(c));
  };
  Case c;
  c.precision = precision;
  c.kv = kv;
  for (int threads : {1, 2}) {
    c.threads = threads;
    Runner r(m.model, c);
    for (int neighbours : {1, 2, 8, 16})
      for (int chunk : {1, 7, 64, 512})
        for (bool cached : {false, true}) {
          c.neighbours = neighbours;
          c.chunk = chunk;
          c.cached = cached;
          compare(r, c);
          if (testing::Test::HasFatalFailure()) return;
        }
  }
  for (isa::Level level : isa::available()) {
    if (level == isa::active()) continue;
    c.level = level;
    c.threads = 2;
    Runner r(m.model, c);
    const bool slow = level == isa::Level::scalar;
    for (const auto& [neighbours, chunk, cached] :
         std::vector<std::tuple<int, int, bool>>{{2, 64, true}, {1, 512, false}, {8, 7, true}, {16, 1, true}}) {
      c.neighbours = neighbours;
      c.chunk = chunk;
      c.cached = cached;
      compare(r, c);
      if (testing::Test::HasFatalFailure() || slow) break;
    }
  }
}

TEST(Sameness, Standard) {
  for (const Named& m : models()) check(m, Precision::standard, KvFormat::f16);
}
TEST(Sameness, Fast) {
  for (const Named& m : models()) check(m, Precision::fast, KvFormat::f16);
}
TEST(Sameness, Exact) {
  for (const Named& m : models()) check(m, Precision::exact, KvFormat::f16);
}
TEST(Sameness, KvInFloat32) {
  check(models()[0], Precision::standard, KvFormat::f32);
  check(models()[2], Precision::standard, KvFormat::f32);
}
TEST(Sameness, KvInBytes) {
  for (const Named& m : models()) check(m, Precision::standard, KvFormat::q8);
}

TEST(Sameness, ForksAndRewindsContinueWithTheSameBits) {
  Case c;
  c.threads = 2;
  Runner r(models()[0].model, c);
  auto s = r.plan().new_state();
  Batch b;
  r.add(b, *s, 0, 100);
  r.run(b);
  auto fork = s->fork();
  const auto last = [&](SequenceState& state, int n) {
    Batch batch;
    r.add(batch, state, 0, n);
    batch.rows.back().want_logits = true;
    const auto results = r.run(batch);
    return std::vector<float>(results.back().logits.begin(), results.back().logits.end());
  };
  const auto want = last(*s, 40);
  EXPECT_EQ(last(*fork, 40), want);  // writes to the shared last page: copied first
  s->trim(70);
  EXPECT_EQ(last(*s, 70), want);
  EXPECT_NE(last(*s, 1), want);
  EXPECT_EQ(fork->length(), 140);
}

TEST(Plan, AnAbandonedBatchLeavesSequencesAsBefore) {
  Case c;
  c.threads = 2;
  Runner r(models()[0].model, c);
  auto s = r.plan().new_state();
  Batch first;
  r.add(first, *s, 1, 30);
  r.run(first);
  std::vector<float> want;
  bool abandoned = false;
  for (int delay : {0, 1, 50, 150, 400, 1000, -1}) {  // microseconds; 0: before the launch, -1: never
    Batch b;
    r.add(b, *s, 1, 400);
    b.rows.back().want_logits = true;
    StopFlag stop{delay == 0};
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(delay));
      if (delay > 0) stop = true;
    });
    ASSERT_TRUE(r.plan().launch(b, &stop).ok());
    const auto results = r.plan().collect();
    other.join();
    if (!results.ok()) {
      EXPECT_EQ(results.error().code, ErrorCode::cancelled);
      EXPECT_EQ(s->length(), 30);
      abandoned = true;
      continue;
    }
    EXPECT_EQ(s->length(), 430);
    const std::vector<float> got(results->back().logits.begin(), results->back().logits.end());
    if (want.empty()) want = got;
    EXPECT_EQ(got, want);
    s->trim(30);
  }
  EXPECT_TRUE(abandoned);
  EXPECT_FALSE(want.empty());
}

TEST(Plan, DrawsWhatWasAskedForPerRow) {
  Case c;
  c.threads = 2;
  Runner r(models()[0].model, c);
  sample::Params greedy, warm;
  greedy.temperature = 0;
  warm.seed = 9;
  sample::Request a, b;
  a.params = &greedy;
  b.params = &warm;
  b.position = 12;
  auto s = r.plan().new_state(), t = r.plan().new_state();
  Batch batch;
  r.add(batch, *s, 1, 12);
  r.add(batch, *t, 2, 5);
  batch.rows[4].sampling = &a;
  batch.rows[4].want_logits = true;
  batch.rows[11].sampling = &b;
  batch.rows[11].want_logits = true;
  batch.rows[16].sampling = &a;
  const auto results = r.run(batch);
  ASSERT_EQ(results.size(), 17u);
  EXPECT_EQ(results[3].sampled.token, -1);
  EXPECT_TRUE(results[3].logits.empty());
  const auto& l = results[4].logits;
  EXPECT_EQ(results[4].sampled.token, int(std::max_element(l.begin(), l.end()) - l.begin()));
  std::vector<float> scratch;
  EXPECT_EQ(results[11].sampled.token, sample::sample(results[11].logits, b, scratch).token);
  EXPECT_GE(results[16].sampled.token, 0);
  EXPECT_TRUE(results[16].logits.empty());
}

TEST(Plan, RefusesWhatDoesNotFitWithNumbers) {
  PlanOptions o;
  o.kv_tokens = int64_t(1) << 30;
  auto plan = make_backend()->compile(models()[0].model, o);
  ASSERT_TRUE(plan.ok());
  EXPECT_GT((*plan)->memory_report().kv_capacity, uint64_t(100) << 30);
  const auto loaded = (*plan)->load({}, nullptr);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::out_of_memory);
  EXPECT_NE(loaded.error().message.find("MiB"), std::string::npos) << loaded.error().message;
  o.kv_tokens = 0;
  EXPECT_FALSE(make_backend()->compile(models()[0].model, o).ok());
}

TEST(Plan, StopsLoading) {
  auto plan = make_backend()->compile(models()[0].model, {});
  ASSERT_TRUE(plan.ok());
  StopFlag stop{true};
  const auto loaded = (*plan)->load({}, &stop);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::cancelled);
  double done = 0;
  EXPECT_TRUE((*plan)->load([&](double f) { done = f; }, nullptr).ok());  // and may be tried again
  EXPECT_EQ(done, 1.0);
  EXPECT_FALSE((*plan)->info().device.empty());
  EXPECT_EQ((*plan)->info().numerics_id.rfind("cpu.", 0), 0u);
}

}  // namespace
}  // namespace ponder::backend::cpu
