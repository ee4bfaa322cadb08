// Prompts computed ahead: exact, only while nothing else runs, gone at once when something does.
#include <gtest/gtest.h>

#include "engine/engine_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

Tokens long_prompt(int n, int salt = 0) {
  Tokens t;
  for (int i = 0; i < n; ++i) t.push_back((i * 7 + i / 64 + salt) % 256);
  return t;
}

SequenceRequest ahead(Tokens prompt, Record& record) {
  auto q = request(std::move(prompt), record);
  q.background = true;
  return q;
}

TEST(Background, ThePagesAreThereWhenTheyAreAskedFor) {
  Rig rig(scripted::scramble(3));
  Record early, real, cold;
  rig.submit(ahead(long_prompt(300), early));
  rig.run();
  EXPECT_EQ(early.reason(), finish::kPrefilled);
  EXPECT_TRUE(early.events.empty());
  EXPECT_EQ(rig.plan->rows_computed(), 256);
  EXPECT_FALSE(rig.engine->step());  // nothing is left to do: the thread sleeps
  rig.submit(request(long_prompt(300), real, 20));
  rig.run();
  EXPECT_EQ(real.finished[0].stats.cached_tokens, 256);
  EXPECT_EQ(rig.plan->rows_computed(), 256 + 44 + 19);
  Rig other(scripted::scramble(3));
  other.submit(request(long_prompt(300), cold, 20));
  other.run();
  EXPECT_EQ(real.tokens(), cold.tokens());

  Record again;  // all known: nothing is computed
  rig.submit(ahead(long_prompt(300), again));
  rig.run();
  EXPECT_EQ(again.reason(), finish::kPrefilled);
  EXPECT_EQ(rig.plan->rows_computed(), 256 + 44 + 19);
}

TEST(Background, OnlyTheNewPartIsComputed) {
  Rig rig(scripted::scramble(3));
  Record first, later;
  rig.submit(request(long_prompt(200), first, 1));
  rig.run();
  const int64_t before = rig.plan->rows_computed();
  rig.submit(ahead(long_prompt(400), later));
  rig.run();
  EXPECT_EQ(rig.plan->rows_computed() - before, 384 - 192);
}

TEST(Background, WaitsUntilNothingElseRunsAndYieldsAtOnce) {
  Rig rig(scripted::scramble(3));
  Record busy, early, late, next;
  rig.submit(request(long_prompt(100), busy, 30));
  rig.submit(ahead(long_prompt(2000, 9), early));  // something runs: there is no idle time
  rig.run();
  EXPECT_EQ(early.reason(), finish::kCancelled);
  EXPECT_EQ(busy.reason(), finish::kLength);

  rig.submit(ahead(long_prompt(2000, 9), late));
  for (int i = 0; i < 4; ++i) rig.engine->step();
  EXPECT_TRUE(late.finished.empty());
  EXPECT_EQ(rig.engine->status().background, 1);
  EXPECT_TRUE(rig.engine->status().idle());
  const int64_t before = rig.plan->rows_computed();
  rig.submit(request(long_prompt(70, 50), next, 5));
  rig.engine->step();
  EXPECT_EQ(late.reason(), finish::kCancelled);
  EXPECT_LE(rig.plan->rows_computed() - before, 70);  // not a row for the other
  rig.run();
  EXPECT_EQ(next.reason(), finish::kLength);
  // What was done is kept.
  Record real;
  rig.submit(request(long_prompt(2000, 9), real, 1));
  rig.run();
  EXPECT_GE(real.finished[0].stats.cached_tokens, 64);
}

TEST(Background, ABatchInFlightIsAbandonedForARequest) {
  Record late, next;
  Rig* at = nullptr;
  bool asked = false;
  scripted::Options fake;
  fake.on_layer = [&](int layer) {
    if (at == nullptr || asked || layer != 1) return;
    asked = true;
    at->submit(request(long_prompt(70, 50), next, 5));
  };
  Rig rig(scripted::scramble(3), {}, fake);
  at = &rig;
  rig.submit(ahead(long_prompt(2000, 9), late));
  rig.run();
  EXPECT_EQ(rig.plan->abandoned(), 1);
  EXPECT_EQ(late.reason(), finish::kCancelled);
  EXPECT_EQ(next.reason(), finish::kLength);
}

TEST(Background, MakesDoWithThePagesThereAre) {
  Rig rig(scripted::scramble(3), {}, {}, 64 * 6);
  Record early, real;
  rig.submit(ahead(long_prompt(380), early));
  rig.run();
  EXPECT_EQ(early.reason(), finish::kPrefilled);
  rig.submit(request(long_prompt(200, 77), real, 150));  // needs nearly all of them
  rig.run();
  EXPECT_EQ(real.reason(), finish::kLength);

  EngineOptions off;
  off.prefix_cache = false;
  Rig none(scripted::scramble(3), off);
  Record nothing;
  none.submit(ahead(long_prompt(380), nothing));
  none.run();
  EXPECT_EQ(nothing.reason(), finish::kPrefilled);
  EXPECT_EQ(none.plan->rows_computed(), 0);
}

}  // namespace
}  // namespace ponder::engine
