// A request and copies of it: one prompt, many streams. What a vote rests on: the first is what it would be alone, the
// prompt is computed once, and memory grows by the pages that the copies have for themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "engine/engine_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kPage = backend::kv::kPageTokens;

struct Members {
  std::vector<Record> records;
  std::vector<SequenceId> ids;
};

// `most`: max_new_tokens.
void submit_group(Rig& rig, Members& m, int n, const Tokens& prompt, int most, float temperature = 1) {
  m.records.resize(size_t(n));
  SequenceRequest q = request(prompt, m.records[0], most);
  q.sampling.temperature = temperature;
  q.sampling.seed = 11;
  q.index_reply = false;
  std::vector<Branch> branches;
  for (int i = 1; i < n; ++i) {
    Branch b;
    b.stream = uint32_t(i);
    b.sink = sink_to(m.records[size_t(i)]);
    branches.push_back(std::move(b));
  }
  auto ids = rig.engine->submit_all(std::move(q), std::move(branches));
  ASSERT_TRUE(ids.ok()) << ids.error().message;
  m.ids = *ids;
}

TEST(Group, EachMemberIsWhatItsStreamDrawsAlone) {
  const Tokens prompt = range(1, 150);
  Members together;
  Rig rig(scripted::scramble(5));
  submit_group(rig, together, 8, prompt, 100);
  rig.run();
  for (int i = 0; i < 8; ++i) {
    Rig alone(scripted::scramble(5));
    Record record;
    SequenceRequest q = request(prompt, record, 100);
    q.sampling.temperature = 1;
    q.sampling.seed = 11;
    q.stream = uint32_t(i);
    alone.submit(std::move(q));
    alone.run();
    EXPECT_EQ(together.records[size_t(i)].tokens(), record.tokens()) << "stream " << i;
    EXPECT_EQ(together.records[size_t(i)].reason(), "length");
  }
  // The prompt once; each copy computes its last token again, for its own draw.
  EXPECT_EQ(rig.plan->rows_computed(), 149 + 7 + 8 * 99);
}

// Pages in use are exactly the prompt's shared ones and each chain's private ones, at every step, as computed from lengths.
TEST(Group, MemoryGrowsByPrivatePagesOnly) {
  const auto pages = [](int tokens) { return (tokens + kPage - 1) / kPage; };
  for (const int prompt_tokens : {1, kPage - 1, kPage, kPage + 1, 2 * kPage - 1, 2 * kPage, 2 * kPage + 1, 3 * kPage,
                                  3 * kPage + 1, 3 * kPage + 30}) {
    for (const int n : {1, 3, 8}) {
      SCOPED_TRACE(std::to_string(prompt_tokens) + " tokens, " + std::to_string(n) + " chains");
      Rig rig(scripted::scramble(6));
      Members m;
      submit_group(rig, m, n, range(0, prompt_tokens), 1000, 1);
      const auto all_have = [&](size_t tokens) {
        return std::all_of(m.records.begin(), m.records.end(),
                           [&](const auto& r) { return r.events.size() >= tokens; });
      };
      while (!all_have(1)) ASSERT_TRUE(rig.engine->step());
      // Shared: what is full before the first token of a chain's own is written, its predecessor being computed again.
      const int shared = n == 1 ? 0 : (prompt_tokens - 1) / kPage;
      std::set<int> seen;
      while (!all_have(2 * kPage + 40)) {
        ASSERT_TRUE(rig.engine->step());
        int expected = shared;
        for (const auto& r : m.records)
          expected += pages(prompt_tokens + int(r.events.size()) - 1) - shared;  // the last token is not computed yet
        ASSERT_EQ(rig.engine->status().pages_used, expected) << m.records[0].events.size() << " tokens";
        seen.insert(expected);
      }
      EXPECT_GE(seen.size(), 3u) << "pages were begun under these eyes";
      // All but one are cancelled: their pages are free after the next step.
      for (size_t i = 1; i < m.ids.size(); ++i) rig.engine->cancel(m.ids[i]);
      rig.engine->step();
      EXPECT_EQ(rig.engine->status().pages_used, pages(prompt_tokens + int(m.records[0].events.size()) - 1));
      for (size_t i = 1; i < m.ids.size(); ++i) EXPECT_EQ(m.records[i].reason(), "cancelled");
      rig.engine->cancel(m.ids[0]);
      rig.run();
      EXPECT_EQ(rig.engine->status().pages_used, prompt_tokens / kPage) << "only the prompt stays in the prefix cache";
    }
  }
}

TEST(Group, MoreMembersThanRoomWaitAndEndTheSame) {
  EngineOptions options;
  options.max_sequences = 3;
  Rig rig(scripted::scramble(7), options);
  Members m;
  submit_group(rig, m, 10, range(0, 100), 80);
  rig.run();
  for (int i = 0; i < 10; ++i) {
    Rig alone(scripted::scramble(7));
    Record record;
    SequenceRequest q = request(range(0, 100), record, 80);
    q.sampling.temperature = 1;
    q.sampling.seed = 11;
    q.stream = uint32_t(i);
    alone.submit(std::move(q));
    alone.run();
    EXPECT_EQ(m.records[size_t(i)].tokens(), record.tokens()) << "stream " << i;
  }
}

TEST(Group, TooLittleMemoryForAllMakesSomeWaitNotFail) {
  Rig rig(scripted::scramble(8), {}, {}, 12 * kPage);
  Members m;
  submit_group(rig, m, 8, range(0, 2 * kPage), 3 * kPage);
  rig.run();
  for (const auto& r : m.records) {
    EXPECT_EQ(r.reason(), "length") << r.error();
    EXPECT_EQ(int(r.tokens().size()), 3 * kPage);
  }
}

// A prompt that all members share is there once, however many of them run.
TEST(Group, SomeoneWhoComesLaterNeedsNoMoreThanIsFree) {
  for (const bool cached : {true, false}) {
    EngineOptions options;
    options.prefix_cache = cached;
    options.max_sequences = 10;
    Rig rig(scripted::scramble(8), options, {}, 32 * kPage);
    Members m;
    Tokens prompt;
    for (int i = 0; i <= 10 * kPage; ++i) prompt.push_back(i * 7 % 200);
    submit_group(rig, m, 8, prompt, 3 * kPage / 2);  // 10 shared pages, 8 * 2 of their own
    while (m.records[7].events.size() < 5) ASSERT_TRUE(rig.engine->step());
    Record late, large;
    rig.submit(request(range(100, 120), late, 10));
    for (int i = 0; i < 5; ++i) rig.engine->step();
    EXPECT_FALSE(late.events.empty()) << "waits although pages are free";
    rig.submit(request(Tokens(20 * kPage, 7), large, 10));  // 20 pages are not there
    while (m.records[7].finished.empty()) {
      ASSERT_TRUE(large.events.empty());
      ASSERT_TRUE(rig.engine->step());
    }
    rig.run();
    EXPECT_EQ(rig.engine->status().preemptions, 0u);
    for (const auto& r : m.records) EXPECT_EQ(r.reason(), "length") << r.error();
    EXPECT_EQ(late.reason(), "length");
    EXPECT_EQ(large.reason(), "length");
  }
}

TEST(Group, AMemberThatEndsAtOnceDoesNotTakeTheOthersWithIt) {
  Rig rig(scripted::scramble(9));
  Members m;
  submit_group(rig, m, 4, {1, 2, 3}, 1);
  rig.run();
  for (const auto& r : m.records) EXPECT_EQ(r.reason(), "length");
}

TEST(Group, NothingIsAcceptedWhenTheRequestIsNot) {
  Rig rig(scripted::scramble(9));
  Record a, b;
  SequenceRequest q = request({}, a);
  std::vector<Branch> branches(1);
  branches[0].sink = sink_to(b);
  EXPECT_FALSE(rig.engine->submit_all(std::move(q), std::move(branches)).ok());
  EXPECT_FALSE(rig.engine->step());
  EXPECT_TRUE(a.finished.empty() && b.finished.empty());
}

}  // namespace
}  // namespace ponder::engine
