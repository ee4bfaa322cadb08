// Every figure of the benchmark, on a plan whose steps take a known time by a clock that is played.
#include "engine/bench.h"

#include <gtest/gtest.h>

#include "backend/scripted/scripted.h"

namespace ponder::engine {
namespace {

namespace scripted = backend::scripted;

struct Rig {
  explicit Rig(int64_t kv_tokens = 4096) {
    backend::PlanOptions po;
    po.kv_tokens = kv_tokens;
    po.max_output_rows = 16;
    scripted::Options o;
    o.seconds_per_step = 0.010, o.seconds_per_row = 0.001;
    plan = scripted::make_plan(scripted::say([](auto) { return 7; }), po, o);
    meters.now = [this] { return plan->now(); };
    meters.cpu_seconds = [this] { return 0.25 * plan->now(); };
    meters.joules = [this] { return std::optional<double>(100 * plan->now()); };  // 100 W
    meters.read_bandwidth = [] { return 1e6; };
  }
  BenchResult measure(const BenchCase& c, const BenchOptions& o = {}) {
    Bench bench(*plan, meters, o);
    auto m = bench.measure(c, nullptr);
    EXPECT_TRUE(m.ok()) << m.error().message;
    EXPECT_TRUE(plan->faults().empty());
    EXPECT_EQ(plan->pages().available(), plan->pages().capacity()) << "pages were kept";
    return m.ok() ? *m : BenchResult{};
  }
  std::unique_ptr<scripted::ScriptedPlan> plan;
  BenchMeters meters;
};

TEST(Bench, StepsOfOneAndOfManySequences) {
  Rig rig;
  const BenchResult one = rig.measure({.n = 20, .depth = 100});
  EXPECT_EQ(one.test, "tg20");
  EXPECT_NEAR(one.seconds, 0.011, 1e-9);
  EXPECT_NEAR(one.tokens_per_second, 1 / 0.011, 1e-6);
  EXPECT_NEAR(one.host_cores, 0.25, 1e-9);
  EXPECT_NEAR(one.joules_per_token.value_or(0), 1.1, 1e-9);
  // 4 bytes of KV a token, 110 tokens in the middle of the run, per step of 0.011 s, of 10^6 bytes a second.
  EXPECT_NEAR(one.fraction, 4 * 110 / 0.011 / 1e6, 1e-9);
  for (const auto& batch : rig.plan->batches())
    if (batch.size() == 1) EXPECT_GE(batch[0].position, 100);
  const BenchResult four = rig.measure({.n = 20, .batch = 4});
  EXPECT_NEAR(four.seconds, 0.014, 1e-9);
  EXPECT_NEAR(four.tokens_per_second, 4 / 0.014, 1e-6);
  EXPECT_NEAR(four.joules_per_token.value_or(0), 1.4 / 4, 1e-9);
}

TEST(Bench, TheLimitIsReadBeforeAndAfter) {
  Rig rig;
  rig.meters.read_bandwidth = [n = 0]() mutable { return n++ % 2 ? 3e6 : 1e6; };
  const BenchResult m = rig.measure({.n = 20, .depth = 100});
  EXPECT_EQ(m.read_bandwidth, 2e6);
  EXPECT_NEAR(m.fraction, 4 * 110 / 0.011 / 2e6, 1e-9);
}

TEST(Bench, StepsWithDrafts) {
  Rig rig;
  const BenchResult m = rig.measure({.n = 20, .drafts = 3});
  EXPECT_EQ(m.test, "tg20+3");
  EXPECT_NEAR(m.seconds, 0.014, 1e-9);
  EXPECT_NEAR(m.tokens_per_second, 4 / 0.014, 1e-6);
  EXPECT_EQ(rig.plan->batches().back().size(), 4u);
  EXPECT_EQ(bench_sequences({{.n = 20, .batch = 2, .drafts = 3}}), 8);
}

TEST(Bench, PromptsAndTheirFirstToken) {
  Rig rig;
  BenchOptions o;
  o.peak_macs = 1e9;
  // 600 tokens in launches of 512 and 88, twice: the first sequence has its token half way.
  const BenchResult m = rig.measure({.prompt = true, .n = 600, .batch = 2}, o);
  EXPECT_EQ(m.test, "pp600");
  EXPECT_NEAR(m.seconds, 0.620, 1e-9);
  EXPECT_NEAR(m.tokens_per_second, 1200 / 1.240, 1e-6);
  EXPECT_NEAR(m.fraction, m.tokens_per_second * double(rig.plan->spec().linear_macs()) / 1e9, 1e-12);
  EXPECT_EQ(m.read_bandwidth, 0);
  int drawn = 0;
  for (const auto& batch : rig.plan->batches())
    for (const auto& row : batch) drawn += row.drew;
  EXPECT_EQ(drawn, 2 * (3 + 1)) << "one token for each prompt, of the runs and the warm-up";
}

TEST(Bench, WhatIsNotToldIsLeftOut) {
  Rig rig;
  rig.meters.read_bandwidth = [] { return 0.0; };
  rig.meters.joules = [n = 3.0]() mutable { return std::optional<double>(n -= 1); };  // a counter that wraps
  const BenchResult m = rig.measure({.n = 4});
  EXPECT_FALSE(m.joules_per_token.has_value());
  EXPECT_EQ(m.fraction, 0);
  EXPECT_NE(bench_table_row(m, {}).find("| - | 11.0 ms | 0.25 | not told |"), std::string::npos)
      << bench_table_row(m, {});
  rig.meters.joules = nullptr;
  EXPECT_FALSE(rig.measure({.n = 4}).joules_per_token.has_value());
}

TEST(Bench, CountsTheCacheThatItsCasesNeed) {
  const std::vector<BenchCase> cases{{.prompt = true, .n = 512}, {.n = 128, .depth = 700}, {.n = 60, .batch = 9}};
  EXPECT_EQ(bench_kv_tokens(cases), 9 * (60 + 64));
  EXPECT_EQ(bench_sequences(cases), 9);
  Rig rig(bench_kv_tokens(cases));
  for (const BenchCase& c : cases) rig.measure(c);
  int32_t deepest = 0;
  for (const BenchCase& c : full_bench()) deepest = std::max(deepest, c.depth);
  EXPECT_EQ(deepest, 32768);
  EXPECT_EQ(bench_sequences(full_bench()), 16);
}

TEST(Bench, FailuresAndInterruptsEndIt) {
  Rig rig(64);
  Bench small(*rig.plan, rig.meters, {});
  EXPECT_FALSE(small.measure({.n = 100}, nullptr).ok());
  Rig other;
  Bench bench(*other.plan, other.meters, {});
  const backend::StopFlag stop{true};
  const auto m = bench.measure({.n = 4}, &stop);
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.error().code, ErrorCode::cancelled);
}

}  // namespace
}  // namespace ponder::engine
