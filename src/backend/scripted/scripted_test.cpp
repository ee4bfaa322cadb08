// The script sees what the pages hold; misuse is noticed; failures and stops leave sequences as they were.
#include "backend/scripted/scripted.h"

#include <gtest/gtest.h>

namespace ponder::backend::scripted {
namespace {

struct Driver {
  std::unique_ptr<ScriptedPlan> plan;
  sample::Params greedy;

  explicit Driver(Script script, const Options& options = {}, int64_t kv_tokens = 1024) {
    PlanOptions p;
    p.kv_tokens = kv_tokens;
    plan = make_plan(std::move(script), p, options);
    greedy.temperature = 0;
  }
  // Feeds tokens and returns what is drawn after the last.
  Result<TokenId> feed(SequenceState& s, std::vector<TokenId> tokens, const StopFlag* stop = nullptr) {
    PONDER_CHECK_OK(s.reserve(int(tokens.size())));
    sample::Request request;
    request.params = &greedy;
    Batch batch;
    for (size_t i = 0; i < tokens.size(); ++i)
      batch.rows.push_back({&s, tokens[i], s.length() + int(i), i + 1 == tokens.size() ? &request : nullptr, false});
    PONDER_CHECK_OK(plan->launch(batch, stop));
    PONDER_TRY(auto results, plan->collect());
    return results.back().sampled.token;
  }
};

// The sum of all tokens so far, modulo the vocabulary.
Script sum() {
  return say([](std::span<const TokenId> so_far) {
    TokenId total = 0;
    for (TokenId t : so_far) total += t;
    return total % 256;
  });
}

TEST(Scripted, SaysWhatTheCacheHolds) {
  Driver d(sum());
  auto s = d.plan->new_state();
  EXPECT_EQ(d.feed(*s, {1, 2, 3}).value(), 6);
  EXPECT_EQ(d.feed(*s, {4}).value(), 10);
  auto fork = s->fork();
  EXPECT_EQ(d.feed(*fork, {100}).value(), 110);
  EXPECT_EQ(d.feed(*s, {5}).value(), 15);
  s->trim(2);
  EXPECT_EQ(d.feed(*s, {7}).value(), 10);
  EXPECT_EQ(d.feed(*fork, {1}).value(), 111);
  std::vector<TokenId> many(200, 1);
  EXPECT_EQ(d.feed(*s, many).value(), 210);
  EXPECT_TRUE(d.plan->faults().empty());
  EXPECT_EQ(d.plan->rows_computed(), 3 + 1 + 1 + 1 + 1 + 1 + 200);
}

TEST(Scripted, ScrambleDependsOnAllTokens) {
  std::vector<float> a(16), b(16), c(16);
  const std::vector<TokenId> x = {1, 2, 3}, y = {2, 1, 3};
  scramble(1)(x, a);
  scramble(1)(y, b);
  scramble(2)(x, c);
  EXPECT_NE(a, b);
  EXPECT_NE(a, c);
  for (float v : a) EXPECT_TRUE(v >= 0 && v < 8.f);
}

TEST(Scripted, RefusesWrongPositionsAndTokens) {
  Driver d(sum());
  auto s = d.plan->new_state();
  ASSERT_TRUE(s->reserve(4).ok());
  EXPECT_FALSE(d.plan->launch(Batch{{{s.get(), 1, 1, nullptr, false}}}, nullptr).ok());
  EXPECT_FALSE(d.plan->launch(Batch{{{s.get(), 256, 0, nullptr, false}}}, nullptr).ok());
  EXPECT_FALSE(d.plan->launch(Batch{{{s.get(), 1, 0, nullptr, false}, {s.get(), 1, 2, nullptr, false}}}, nullptr).ok());
  EXPECT_FALSE(d.plan->collect().ok());
  EXPECT_EQ(d.plan->faults().size(), 1u);
}

TEST(Scripted, StopAndFailureLeaveTheSequence) {
  StopFlag stop{false};
  Options options;
  options.on_layer = [&](int layer) {
    if (layer == 2) stop = true;
  };
  options.on_collect = [](const Batch&, int step) -> Result<void> {
    if (step == 1) return Error{ErrorCode::io, "injected"};
    return {};
  };
  Driver d(sum(), options);
  auto s = d.plan->new_state();
  EXPECT_EQ(d.feed(*s, {1, 2}, &stop).error().code, ErrorCode::cancelled);
  EXPECT_EQ(s->length(), 0);
  EXPECT_EQ(d.feed(*s, {1, 2}).error().code, ErrorCode::io);
  EXPECT_EQ(s->length(), 0);
  EXPECT_EQ(d.feed(*s, {1, 2}).value(), 3);
  EXPECT_EQ(s->length(), 2);
}

TEST(Scripted, RunsOutOfPages) {
  Driver d(sum(), {}, 128);
  auto s = d.plan->new_state();
  EXPECT_TRUE(s->reserve(128).ok());
  EXPECT_EQ(s->reserve(129).error().code, ErrorCode::out_of_memory);
}

}  // namespace
}  // namespace ponder::backend::scripted
