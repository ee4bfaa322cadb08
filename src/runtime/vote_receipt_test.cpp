// Receipts of votes: the way to JSON and back, and a vote held again over the recorded chains.
#include "runtime/vote_receipt.h"

#include <gtest/gtest.h>

#include <functional>

#include "engine/replay.h"
#include "runtime/json_mutations_support.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

using engine::Action;
using nlohmann::json;

// What chain `stream` said; it was cancelled unless it `ended`.
Receipt chain(uint32_t stream, const std::string& text, bool ended) {
  Receipt r;
  r.sequence.prompt = {1, 2, 3};
  r.sequence.stream = stream;
  r.sequence.max_new_tokens = -1;
  r.sequence.context_length = 100;
  r.sequence.end_tokens = {tiny().tokenizer->eos().value()};
  r.done_reason = ended ? "stop" : "cancelled";
  Action a;
  a.position = 3;
  a.tokens = tiny().tokenizer->encode(std::vector<tokenizer::Segment>{{text, true}}, {});
  if (ended) a.tokens.push_back(r.sequence.end_tokens[0]);
  r.recording.actions.push_back(a);
  return r;
}

Receipts voted(std::vector<Receipt> chains, const reason::VoteOptions& options, int winner, const std::string& answer) {
  Receipts all;
  all.chains = std::move(chains);
  VoteRecord& v = all.vote.emplace();
  v.options = options;
  v.starts_inside = true;
  v.decided = true;
  v.winner = winner;
  v.answer = answer;
  return all;
}

reason::VoteOptions three() {
  reason::VoteOptions o;
  o.n = 3;
  o.min = 3;
  return o;
}

TEST(VoteReceipt, TheVoteIsHeldAgain) {
  const std::string close = tiny().thinking->close_text;
  const auto says = [&](const std::string& thought, const std::string& answer) {
    return thought + "\n" + close + "\n\nThe answer is \\boxed{" + answer + "}.";
  };
  // Two agree: the one that ended first speaks.
  auto receipts = voted({chain(0, says("a long thought, and longer still", "7"), true),
                         chain(1, says("short", "7"), true), chain(2, says("another", "8"), true)},
                        three(), 1, "7");
  VoteRecord again = vote_again(receipts, tiny());
  EXPECT_EQ(again.winner, 1);
  EXPECT_EQ(again.answer, "7");
  EXPECT_TRUE(again.decided);
  EXPECT_TRUE(again.same_outcome(*receipts.vote));
  receipts.vote->winner = 2;
  EXPECT_FALSE(again.same_outcome(*receipts.vote));

  // Two to none settles a vote of three; the third was cancelled where it stood.
  auto options = three();
  options.min = 2;
  receipts =
      voted({chain(0, says("a", "7"), true), chain(1, says("b", "7"), true), chain(2, std::string(60, 'c'), false)},
            options, 0, "7");
  receipts.vote->settled = true;
  again = vote_again(receipts, tiny());
  EXPECT_TRUE(again.settled);
  EXPECT_TRUE(again.same_outcome(*receipts.vote));

  // Of a thought nothing counts, a stop string cuts the answer, and what was cut off by a limit counts only when boxed.
  receipts =
      voted({chain(0, "\\boxed{1}" + close + "\n\nIt is 5. STOP It is 6.", true)}, reason::VoteOptions(), 0, "5");
  receipts.vote->options.min = 1;
  receipts.vote->stops = {"STOP"};
  EXPECT_EQ(vote_again(receipts, tiny()).answer, "5");
  receipts.chains[0].done_reason = "length";
  EXPECT_EQ(vote_again(receipts, tiny()).answer, "");
  receipts.vote->starts_inside = false;
  receipts.vote->thinks = false;
  EXPECT_EQ(vote_again(receipts, tiny()).answer, "1");
}

json example() {
  auto receipts = voted({chain(0, "a", true), chain(1, "b", true), chain(2, "c", false)}, three(), 0, "");
  for (Receipt& r : receipts.chains) seal(r);
  return to_json(receipts);
}

TEST(VoteReceipt, SurvivesTheRoundTrip) {
  const json j = example();
  const auto r = receipts_from(json::parse(j.dump()));
  ASSERT_TRUE(r.ok()) << r.error().message;
  EXPECT_EQ(to_json(*r).dump(), j.dump());
  ASSERT_EQ(r->chains.size(), 3u);
  EXPECT_EQ(r->chains[2].sequence.stream, 2u);
  EXPECT_EQ(r->chains[2].done_reason, "cancelled");
  EXPECT_TRUE(receipts_from(json{{"model", "m"}, {"receipt", j}}).ok());
}

TEST(VoteReceipt, NamesWhatIsWrong) {
  const auto error = [](const std::function<void(json&)>& change) {
    json j = example();
    change(j);
    auto r = receipts_from(j);
    return r.ok() ? std::string("accepted") : r.error().message;
  };
  EXPECT_NE(error([](json& j) { j.erase("vote"); }).find("\"chains\""), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"] = 3; }).find("options"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"]["options"]["n"] = 4; }).find("4 chains"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"]["options"]["method"] = "loud"; }).find("method"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"]["winner"] = 3; }).find("winner"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"]["stop"] = {1}; }).find("\"stop\""), std::string::npos);
  EXPECT_NE(error([](json& j) { j["vote"].erase("settled"); }).find("settled"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["chains"][1] = 7; }).find("chain 1"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["chains"] = json::object(); }).find("chains"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["request"] = 1; }).find("request"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["chains"][2]["actions"][0]["drawn"] = {9}; }).find("changed"), std::string::npos);
  EXPECT_NE(error([](json& j) { j["chains"][2].erase("stream"); }).find("stream"), std::string::npos);
}

TEST(VoteReceipt, NothingBreaksTheReader) {
  mutate(example(), 2000, [](const json& j) {
    const auto r = receipts_from(j);
    EXPECT_FALSE(r.ok() && r->chains.empty());
  });
}

}  // namespace
}  // namespace ponder::runtime
