#include "reason/budget.h"

#include <gtest/gtest.h>

namespace ponder::reason {
namespace {

using State = Budget::State;

TEST(Budget, PassesThroughItsStates) {
  BudgetOptions o;
  o.tokens = 100;
  Budget b(o);
  EXPECT_EQ(b.window(), 110);
  double before = 0;
  for (int n = 0; n <= 120; ++n) {
    const State s = b.look(n, n, 0);
    const State expected = n >= 110 ? State::over : n >= 100 ? State::waiting : n >= 85 ? State::soft : State::free;
    EXPECT_EQ(s, expected) << n;
    EXPECT_GE(b.pressure(), before) << "pressure only rises";
    before = b.pressure();
  }
  EXPECT_EQ(b.cause(), Budget::Cause::tokens);
}

TEST(Budget, HardHasNoWindow) {
  BudgetOptions o;
  o.tokens = 100;
  o.hard = true;
  Budget b(o);
  EXPECT_EQ(b.window(), 100);
  EXPECT_EQ(b.look(99, 99, 0), State::free);
  EXPECT_EQ(b.look(100, 100, 0), State::over);
}

TEST(Budget, RoomForClosingAndAnswerStays) {
  BudgetOptions o;
  o.room = 200;
  o.answer = 50;
  o.closing = 20;
  for (const bool hard : {false, true}) {
    o.hard = hard;
    Budget b(o);
    EXPECT_EQ(b.window(), -1);
    EXPECT_EQ(b.look(0, 0, 0), State::free);
    EXPECT_NE(b.look(129, 129, 0), State::over);
    EXPECT_EQ(b.look(130, 130, 0), State::over);
    EXPECT_EQ(b.look(10, 130, 0), State::over) << "what was forced takes room too";
  }
}

TEST(Budget, SecondsBecomeTokensAtTheMeasuredRate) {
  BudgetOptions o;
  o.seconds = 10;
  Budget b(o);
  // 20 tokens a second: 200 tokens.
  int n = 0;
  double now = 5;
  for (; n < 1000; ++n, now += 0.05)
    if (b.look(n, n, now) == State::waiting) break;
  EXPECT_NEAR(n, 200, 14);
  EXPECT_EQ(b.cause(), Budget::Cause::seconds);
}

TEST(Budget, SecondsAreEstimatedAgain) {
  BudgetOptions o;
  o.seconds = 10;
  o.hard = true;
  Budget b(o);
  int n = 0;
  double now = 0;
  for (; n < 5000; ++n, now += n < 100 ? 0.01 : 0.1)  // becomes ten times slower
    if (b.look(n, n, now) == State::over) break;
  EXPECT_NEAR(now, 10, 0.3);
}

TEST(Budget, AStandstillEndsToo) {
  BudgetOptions o;
  o.seconds = 1;
  Budget b(o);
  b.look(1, 1, 0);
  EXPECT_EQ(b.look(2, 2, 0.5), State::free);
  EXPECT_EQ(b.look(2, 2, 1.2), State::over);
  EXPECT_EQ(b.cause(), Budget::Cause::seconds);
}

TEST(Budget, MoreIsMore) {
  BudgetOptions o;
  o.tokens = 100;
  Budget b(o);
  EXPECT_EQ(b.look(105, 105, 0), State::waiting);
  b.extend(0);
  EXPECT_EQ(b.window(), 165);
  EXPECT_EQ(b.look(105, 105, 0), State::free);
  b.extend(50);
  EXPECT_EQ(b.window(), 220);
  o.tokens = -1;
  o.seconds = 2;
  Budget timed(o);
  timed.look(1, 1, 0);
  EXPECT_EQ(timed.look(2, 2, 2.1), State::waiting);
  timed.extend(0);
  EXPECT_EQ(timed.look(3, 3, 2.1), State::free);
  EXPECT_EQ(timed.look(3, 3, 3.4), State::over);
}

}  // namespace
}  // namespace ponder::reason
