// Pages: what is reused is not computed again, clients are kept apart, and a cache that is too small slows sequences
// down or ends them with a reason, but never stops the engine.
#include <gtest/gtest.h>

#include "engine/engine_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

Tokens pattern(int n, int salt) {
  Tokens t;
  for (int i = 0; i < n; ++i) t.push_back((i * 7 + salt * 31) % 200);
  return t;
}

TEST(Prefix, FullPagesAreReused) {
  Rig rig(count_up());
  Record first, second, longer;
  const Tokens prompt = pattern(200, 1);
  rig.submit(request(prompt, first, 2));
  rig.run();
  EXPECT_EQ(rig.plan->rows_computed(), 201);
  rig.submit(request(prompt, second, 2));
  rig.run();
  EXPECT_EQ(rig.plan->rows_computed(), 201 + 201 - 192);
  EXPECT_EQ(second.finished[0].stats.cached_tokens, 192);
  EXPECT_EQ(second.tokens(), first.tokens());
  Tokens more = prompt;
  more.insert(more.end(), 100, 3);
  rig.submit(request(more, longer, 1));
  rig.run();
  EXPECT_EQ(longer.finished[0].stats.cached_tokens, 192);
  EXPECT_EQ(longer.progress.back().done, 300);
  EXPECT_EQ(longer.progress.back().total, 300);
}

TEST(Prefix, TheLastTokenIsAlwaysComputed) {
  Rig rig(count_up());
  Record first, second;
  rig.submit(request(Tokens(128, 4), first, 1));
  rig.run();
  rig.submit(request(Tokens(128, 4), second, 1));
  rig.run();
  EXPECT_EQ(second.finished[0].stats.cached_tokens, 64);
  EXPECT_EQ(second.tokens(), (Tokens{5}));
}

TEST(Prefix, GeneratedTokensAreReusedToo) {
  Rig rig(count_up());
  Record first, second;
  rig.submit(request({1}, first, 130));
  rig.run();
  Tokens turn = {1};
  for (TokenId t : first.tokens()) turn.push_back(t);
  turn.push_back(9);
  rig.submit(request(turn, second, 1));
  rig.run();
  EXPECT_EQ(second.finished[0].stats.cached_tokens, 128);
}

TEST(Prefix, ClientsAreKeptApart) {
  Rig rig(count_up());
  Record a, b, c;
  auto ask = [&](Record& r, const char* client) {
    auto q = request(pattern(200, 2), r, 1);
    q.client = client;
    rig.submit(std::move(q));
    rig.run();
  };
  ask(a, "alice");
  ask(b, "bob");
  ask(c, "alice");
  EXPECT_EQ(b.finished[0].stats.cached_tokens, 0);
  EXPECT_EQ(c.finished[0].stats.cached_tokens, 192);
}

TEST(Prefix, CanBeSwitchedOff) {
  EngineOptions options;
  options.prefix_cache = false;
  Rig rig(count_up(), options);
  Record a, b;
  rig.submit(request(pattern(200, 2), a, 1));
  rig.run();
  EXPECT_EQ(rig.engine->status().pages_used, 0);
  rig.submit(request(pattern(200, 2), b, 1));
  rig.run();
  EXPECT_EQ(b.finished[0].stats.cached_tokens, 0);
}

TEST(Prefix, ARewoundPageDoesNotPoisonTheIndex) {
  Rig rig(scripted::scramble(8));
  Record rewound, next, alone;
  bool done = false;
  auto q = request(pattern(60, 5), rewound, 140);
  q.controllers = {on_token([&](const TokenEvent& e) {
    Decision d;
    if (e.position == 150 && !done) {
      done = true;
      d.rewind_to = 100;
      d.force = {1, 2, 3};
    }
    return d;
  })};
  rig.submit(std::move(q));
  rig.run();
  // Both continuations of the rewound text give what a fresh engine gives.
  for (bool before : {true, false}) {
    Tokens text = pattern(60, 5);
    for (size_t i = 0; i < 40; ++i) text.push_back(rewound.events[i].token);
    const size_t from = before ? 40 : 91;  // events 0..90 are positions 60..150
    for (size_t i = from; i < from + 45; ++i) text.push_back(rewound.events[i].token);
    Record r, fresh;
    rig.submit(request(text, r, 20));
    rig.run();
    EXPECT_EQ(r.finished[0].stats.cached_tokens, 128);
    Rig other(scripted::scramble(8));
    other.submit(request(text, fresh, 20));
    other.run();
    EXPECT_EQ(r.tokens(), fresh.tokens());
  }
}

TEST(Pages, TheIndexGivesWayFirst) {
  Rig rig(count_up(), {}, {}, 4 * 64);
  for (int i = 0; i < 10; ++i) {
    Record r;
    rig.submit(request(pattern(190, i), r, 20));
    rig.run();
    EXPECT_EQ(r.reason(), finish::kLength) << r.error();
    EXPECT_EQ(r.events.size(), 20u);
  }
  EXPECT_EQ(rig.engine->status().preemptions, 0u);
}

TEST(Pages, ShortageMakesTheYoungestWaitAndChangesNoToken) {
  for (bool cached : {true, false}) {
    EngineOptions options;
    options.prefix_cache = cached;
    Rig rig(scripted::scramble(2), options, {}, 6 * 64);
    std::vector<Record> records(4);
    for (int i = 0; i < 4; ++i) rig.submit(request(pattern(50, i), records[size_t(i)], 200));
    rig.run();
    EXPECT_GT(rig.engine->status().preemptions, 0u);
    for (int i = 0; i < 4; ++i) {
      Record alone;
      Rig other(scripted::scramble(2));
      other.submit(request(pattern(50, i), alone, 200));
      other.run();
      EXPECT_EQ(records[size_t(i)].tokens(), alone.tokens()) << i;
      EXPECT_EQ(records[size_t(i)].reason(), finish::kLength) << records[size_t(i)].error();
      EXPECT_EQ(records[size_t(i)].finished[0].stats.prompt_tokens, 50);
    }
  }
}

TEST(Pages, TheOldestNeverWaits) {
  Rig rig(count_up(), {}, {}, 3 * 64);
  std::vector<Record> records(3);
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) {
    auto q = request(pattern(60, i), records[size_t(i)], 120);
    auto keep = q.sink.on_finish;
    q.sink.on_finish = [&order, keep, i](const Finished& f) {
      order.push_back(i);
      keep(f);
    };
    rig.submit(std::move(q));
  }
  rig.run();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST(Pages, ASequenceTooLargeForTheCacheEndsWithTheNumbers) {
  Rig rig(count_up(), {}, {}, 2 * 64);
  Record large, small;
  rig.submit(request(Tokens(100, 1), large));
  rig.submit(request({1}, small, 10));
  rig.run();
  EXPECT_EQ(large.reason(), finish::kError);
  EXPECT_EQ(large.finished[0].error->code, ErrorCode::out_of_memory);
  EXPECT_NE(large.error().find("128"), std::string::npos) << large.error();
  EXPECT_EQ(large.events.size(), 29u);  // positions 100 ... 128: the last is drawn from 127 and never stored
  EXPECT_EQ(small.reason(), finish::kLength);
}

TEST(Pages, ForksThatWaitGiveTheirsBack) {
  EngineOptions options;
  options.max_sequences = 1;
  Rig rig(scripted::scramble(4), options, {}, 3 * 64);
  Record source;
  std::vector<Record> forks(3);
  SequenceId id = 0;
  auto q = request(pattern(30, 1), source, 150);
  q.controllers = {on_token([&](const TokenEvent& e) {
    if (e.position % 20 == 5 && e.position < 100) {
      const size_t i = size_t(e.position / 20 - 2);
      if (i < forks.size()) {
        EXPECT_TRUE(rig.engine->fork(id, 0, {}, sink_to(forks[i])).ok());
      }
    }
    return Decision{};
  })};
  id = rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(source.reason(), finish::kLength) << source.error();
  for (const Record& f : forks) {  // greedy: each repeats the source's rest
    EXPECT_EQ(f.reason(), finish::kLength) << f.error();
    ASSERT_FALSE(f.events.empty());
    const size_t from = size_t(f.events[0].position - 30);
    const Tokens all = source.tokens();
    ASSERT_LT(from, all.size());
    EXPECT_EQ(f.tokens(), Tokens(all.begin() + long(from), all.end()));
  }
}

TEST(Pages, StorageThatFailsEndsOrDelaysOnlyItsSequence) {
  scripted::Options options;
  options.on_prepare_page = [](backend::kv::PageId page) -> Result<void> {
    if (page == 2) return Error{ErrorCode::io, "page 2 is broken"};
    return {};
  };
  Rig rig(count_up(), {}, options);
  Record a, b, c;
  rig.submit(request({10}, a, 5));
  rig.submit(request({20}, b, 5));
  rig.submit(request({30}, c, 5));
  rig.run();
  EXPECT_EQ(a.reason(), finish::kLength);
  EXPECT_EQ(b.reason(), finish::kLength);
  EXPECT_EQ(c.reason(), finish::kError);
  EXPECT_EQ(c.error(), "page 2 is broken");
}

}  // namespace
}  // namespace ponder::engine
