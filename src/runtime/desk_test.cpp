#include "runtime/desk.h"

#include <gtest/gtest.h>

namespace ponder::runtime {
namespace {

using reason::Phase;

TEST(Desk, CommandsReachEveryChainThatCanFollow) {
  Desk desk;
  auto ticket = desk.open("a");
  ASSERT_TRUE(ticket.ok());
  auto one = (*ticket)->add(), two = (*ticket)->add();
  one->enter(Phase::thinking);
  two->enter(Phase::answering);
  auto met = desk.post("a", {reason::Command::Action::answer, "", 0});
  ASSERT_TRUE(met.ok());
  EXPECT_EQ(*met, Phase::thinking);
  EXPECT_EQ(one->take().size(), 1u);
  EXPECT_EQ(two->take().size(), 0u);
  one->enter(Phase::answering);
  EXPECT_EQ(desk.post("a", {reason::Command::Action::answer, "", 0}).error().code, ErrorCode::already_exists);
  EXPECT_EQ(*desk.post("a", {reason::Command::Action::stop, "", 0}), Phase::answering);
  EXPECT_EQ(desk.post("b", {}).error().code, ErrorCode::not_found);
}

TEST(Desk, AnIdIsTakenWhileItsRequestRuns) {
  Desk desk;
  auto ticket = desk.open("a");
  ASSERT_TRUE(ticket.ok());
  auto door = (*ticket)->add();
  EXPECT_EQ(desk.open("a").error().code, ErrorCode::already_exists);
  door->enter(Phase::done);  // the client has heard of the end; the engine still holds the door
  auto again = desk.open("a");
  ASSERT_TRUE(again.ok()) << again.error().message;
  auto other = (*again)->add();
  other->enter(Phase::thinking);
  door.reset();
  *ticket = nullptr;
  EXPECT_TRUE(desk.post("a", {}).ok()) << "the end of the old request does not take the new one off";
  other.reset();
  *again = nullptr;
  EXPECT_EQ(desk.post("a", {}).error().code, ErrorCode::not_found);
}

TEST(Desk, MadeIdsDiffer) {
  Desk desk;
  auto a = desk.open(""), b = desk.open("");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE((*a)->id(), (*b)->id());
  EXPECT_TRUE((*a)->id().starts_with("req-"));
}

}  // namespace
}  // namespace ponder::runtime
