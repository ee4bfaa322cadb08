// What controllers may decide, alone and together, and forks.
#include <gtest/gtest.h>

#include "engine/engine_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

TEST(Controllers, MasksAreJoined) {
  Rig rig(count_up());
  Record r;
  std::vector<uint32_t> a(8, ~0u), b(8, ~0u);
  a[0] &= ~(1u << 11);  // not what the script says
  b.assign(8, 0);
  b[0] = 1u << 11 | 1u << 7;
  b[7] = 1u << 30;
  auto first = std::make_shared<LambdaController>(), second = std::make_shared<LambdaController>();
  int seen = 0;
  first->mask_words = [&] { return sample::MaskWords(a); };
  second->mask_words = [&] { return seen == 0 ? sample::MaskWords(b) : sample::MaskWords{}; };
  second->token = [&](const TokenEvent&) {
    ++seen;
    return Decision{};
  };
  auto q = request({10}, r, 2);
  q.controllers = {first, second};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{7, 8}));  // the lowest of the allowed with equal logits; then free again
}

TEST(Controllers, ForcedTokensAreFedInOneBatch) {
  Rig rig(count_up());
  Record r;
  std::vector<Tokens> seen;
  auto c = on_token([&](const TokenEvent& e) {
    seen.push_back({e.token, e.position, e.forced});
    Decision d;
    if (e.token == 12) d.force = {50, 60, 70};
    return d;
  });
  auto q = request({10}, r, 7);
  q.controllers = {c};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{11, 12, 50, 60, 70, 71, 72}));
  EXPECT_TRUE(r.events[2].forced && r.events[3].forced && r.events[4].forced);
  EXPECT_FALSE(r.events[5].forced);
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(seen[3], (Tokens{60, 4, 1}));
  ASSERT_EQ(rig.plan->batches().size(), 4u);
  EXPECT_EQ(rig.plan->batches()[2].size(), 4u);  // 12, 50, 60, 70 together; only the last draws
  EXPECT_FALSE(rig.plan->batches()[2][2].drew);
  EXPECT_TRUE(rig.plan->batches()[2][3].drew);
}

TEST(Controllers, ForcesOfSeveralAreConcatenated) {
  Rig rig(count_up());
  Record r;
  auto force = [](Tokens tokens) {
    return on_token([tokens](const TokenEvent& e) {
      Decision d;
      if (e.position == 1) d.force = tokens;
      if (e.token == 100) d.force = {200};  // from a forced token: after those that wait
      return d;
    });
  };
  auto q = request({10}, r, 7);
  q.controllers = {force({100, 101}), on_token([](const TokenEvent& e) {
                     Decision d;
                     if (e.position == 1) d.force = {102};
                     return d;
                   })};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{11, 100, 101, 102, 200, 201, 202}));
}

TEST(Controllers, StartMayForceOrFinish) {
  Rig rig(count_up());
  Record forced, finished, length;
  auto f = std::make_shared<LambdaController>(), e = std::make_shared<LambdaController>();
  f->start = [](std::span<const TokenId> prompt) {
    EXPECT_EQ(Tokens(prompt.begin(), prompt.end()), (Tokens{10, 11}));
    Decision d;
    d.force = {30, 40};
    return d;
  };
  e->start = [](std::span<const TokenId>) {
    Decision d;
    d.finish = "nothing to say";
    d.force = {1};
    return d;
  };
  auto q = request({10, 11}, forced, 4);
  q.controllers = {f};
  rig.submit(std::move(q));
  q = request({10, 11}, finished);
  q.controllers = {e, f};
  rig.submit(std::move(q));
  q = request({10, 11}, length, 1);
  q.controllers = {f};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(forced.tokens(), (Tokens{30, 40, 41, 42}));
  EXPECT_EQ(rig.plan->batches()[0].size(), 4u);
  EXPECT_TRUE(finished.events.empty());
  EXPECT_EQ(finished.reason(), "nothing to say");
  EXPECT_EQ(length.tokens(), (Tokens{30}));
  EXPECT_EQ(length.reason(), finish::kLength);
}

TEST(Controllers, TheFirstFinishWinsAndAllAreAsked) {
  Rig rig(count_up());
  Record r;
  int later = 0;
  auto end = [](const char* reason) {
    return on_token([reason](const TokenEvent& e) {
      Decision d;
      if (e.position == 2) d.finish = reason;
      return d;
    });
  };
  auto watcher = on_token([&](const TokenEvent&) {
    ++later;
    return Decision{};
  });
  auto a = end("first"), b = end("second");
  auto q = request({10}, r, 2);
  q.end_tokens = {12};
  q.controllers = {a, b, watcher};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.reason(), "first");  // before stop and length
  EXPECT_EQ(r.tokens(), (Tokens{11, 12}));
  EXPECT_EQ(later, 2);
  EXPECT_EQ(b->finishes, (std::vector<std::string>{"first"}));
}

TEST(Controllers, RewindDropsTokens) {
  for (bool cached : {false, true}) {
    EngineOptions options;
    options.prefix_cache = cached;
    Rig rig(count_up(), options);
    Record r;
    bool done = false;
    auto q = request(Tokens(62, 1), r, 12);
    q.controllers = {on_token([&](const TokenEvent& e) {
      Decision d;
      if (e.position == 70 && !done) {  // 2 3 4 | 5 6 7 8 9 10: over the border of a page
        done = true;
        d.rewind_to = 64;
        d.force = {100};
        d.stream = 7;
      }
      return d;
    })};
    rig.submit(std::move(q));
    rig.run();
    EXPECT_EQ(r.tokens(), (Tokens{2, 3, 4, 5, 6, 7, 8, 9, 10, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109}));
    EXPECT_EQ(r.events[9].position, 64);
    EXPECT_EQ(r.events[18].position, 73);
    EXPECT_EQ(r.reason(), finish::kLength);
  }
}

TEST(Controllers, RewindStopsAtThePromptAndRevokesAnEnd) {
  Rig rig(count_up());
  Record r;
  int ends = 0;
  auto q = request({10}, r, 3);
  q.end_tokens = {12};
  q.controllers = {on_token([&](const TokenEvent& e) {
    Decision d;
    if (e.end && ends++ == 0) {
      d.rewind_to = -5;
      d.force = {20};
    }
    return d;
  })};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{11, 12, 20, 21, 22}));
  EXPECT_EQ(r.events[2].position, 1);
  EXPECT_EQ(r.reason(), finish::kLength);
}

TEST(Controllers, ParamsAndStreamChangeTheDraw) {
  Rig rig(scripted::scramble(3));
  Record plain, streamed, hot, again;
  auto ask = [&](Record& r, std::function<Decision(const TokenEvent&)> f) {
    auto q = request({1, 2, 3}, r, 30);
    q.sampling.temperature = 1;
    q.sampling.seed = 5;
    if (f) q.controllers = {on_token(std::move(f))};
    rig.submit(std::move(q));
  };
  ask(plain, nullptr);
  ask(again, nullptr);
  ask(streamed, [](const TokenEvent& e) {
    Decision d;
    if (e.position == 12) d.stream = 9;
    return d;
  });
  ask(hot, [](const TokenEvent& e) {
    Decision d;
    if (e.position == 12) {
      d.params = sample::Params{};
      d.params->temperature = 0;
    }
    return d;
  });
  rig.run();
  EXPECT_EQ(plain.tokens(), again.tokens());
  for (const Record* other : {&streamed, &hot}) {
    EXPECT_NE(plain.tokens(), other->tokens());
    EXPECT_TRUE(std::equal(plain.events.begin(), plain.events.begin() + 10, other->events.begin(),
                           [](const auto& a, const auto& b) { return a.token == b.token; }));
  }
}

TEST(Controllers, BadDecisionsEndTheirSequenceOnly) {
  Rig rig(count_up());
  Record bad_token, bad_params, good;
  auto q = request({1}, bad_token, 5);
  q.controllers = {on_token([](const TokenEvent&) {
    Decision d;
    d.force = {256};
    return d;
  })};
  rig.submit(std::move(q));
  q = request({1}, bad_params, 5);
  q.controllers = {on_token([](const TokenEvent&) {
    Decision d;
    d.params = sample::Params{};
    d.params->top_p = -1;
    return d;
  })};
  rig.submit(std::move(q));
  rig.submit(request({1}, good, 5));
  rig.run();
  EXPECT_EQ(bad_token.reason(), finish::kError);
  EXPECT_EQ(bad_params.reason(), finish::kError);
  EXPECT_NE(bad_params.error().find("top_p"), std::string::npos);
  EXPECT_EQ(good.tokens(), range(2, 7));
}

TEST(Controllers, StepsAreTimeLimits) {
  scripted::Options fake;
  fake.seconds_per_step = 1;
  Rig rig(count_up(), {}, fake);
  Record r;
  auto c = std::make_shared<LambdaController>();
  c->at_step = [&] {
    Decision d;
    if (rig.plan->now() >= 5) d.finish = "time";
    return d;
  };
  auto q = request({10}, r);
  q.controllers = {c};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.reason(), "time");
  EXPECT_EQ(r.tokens().size(), 5u);
  EXPECT_DOUBLE_EQ(r.finished[0].stats.prefill_seconds, 1);
  EXPECT_DOUBLE_EQ(r.finished[0].stats.decode_seconds, 4);
}

TEST(Controllers, ForcingForeverDoesNotHoldUpOthers) {
  EngineOptions options;
  options.context_length = 20000;
  Rig rig(count_up(), options);
  Record endless, other;
  auto q = request({1}, endless);
  q.controllers = {on_token([](const TokenEvent&) {
    Decision d;
    d.force = {3};
    return d;
  })};
  rig.submit(std::move(q));
  rig.submit(request({1}, other, 5));
  for (int i = 0; i < 8; ++i) rig.engine->step();
  EXPECT_EQ(other.reason(), finish::kLength);
  EXPECT_TRUE(endless.finished.empty());
  rig.run();
  EXPECT_EQ(endless.reason(), finish::kContext);
}

TEST(Fork, SharesEverythingSoFar) {
  for (int prompt : {3, 64, 200}) {
    Rig rig(scripted::scramble(11));
    Record source, fork, alone;
    SequenceId id = 0;
    auto q = request(Tokens(size_t(prompt), 9), source, 90);
    q.sampling.temperature = 1;
    int forks = 0;
    q.controllers = {on_token([&](const TokenEvent& e) {
      if (e.position == prompt + 9) forks += rig.engine->fork(id, 1, {}, sink_to(fork)).ok();
      return Decision{};
    })};
    id = rig.submit(std::move(q));
    rig.run();
    ASSERT_EQ(forks, 1);
    EXPECT_EQ(source.tokens().size(), 90u);
    EXPECT_EQ(fork.tokens().size(), 80u);
    EXPECT_EQ(fork.events[0].position, prompt + 10);
    EXPECT_EQ(fork.finished[0].stats.cached_tokens, prompt + 9);
    EXPECT_EQ(rig.plan->rows_computed(), prompt + 89 + 80);  // nothing twice, but the token both start from
    // The same as asking for that from the start.
    auto again = request(Tokens(size_t(prompt), 9), alone, 80);
    for (int i = 0; i < 10; ++i) again.prompt.push_back(source.events[size_t(i)].token);
    again.sampling.temperature = 1;
    again.stream = 1;
    rig.submit(std::move(again));
    rig.run();
    EXPECT_EQ(alone.tokens(), fork.tokens());
    const Tokens all = source.tokens();
    EXPECT_NE(Tokens(all.begin() + 10, all.end()), fork.tokens());
  }
}

TEST(Fork, OfAPromptComputesItOnce) {
  EngineOptions options;
  options.prefix_cache = false;
  Rig rig(count_up(), options);
  Record a, b, c;
  const SequenceId id = rig.submit(request(Tokens(300, 5), a, 3));
  ASSERT_TRUE(rig.engine->fork(id, 1, {}, sink_to(b)).ok());  // still waiting
  rig.engine->step();
  ASSERT_TRUE(rig.engine->fork(id, 2, {}, sink_to(c)).ok());  // in the middle of its prompt
  rig.run();
  EXPECT_EQ(a.tokens(), (Tokens{6, 7, 8}));
  EXPECT_EQ(b.tokens(), a.tokens());
  EXPECT_EQ(c.tokens(), a.tokens());
  EXPECT_EQ(rig.plan->rows_computed(), 300 + 2 + 2 * 3);
}

TEST(Fork, OfWhatIsGone) {
  Rig rig(count_up());
  Record r, late;
  EXPECT_EQ(rig.engine->fork(77, 1, {}, {}).error().code, ErrorCode::not_found);
  SequenceId id = 0;
  auto q = request({10}, r, 1);
  q.controllers = {on_token([&](const TokenEvent&) {
    EXPECT_TRUE(rig.engine->fork(id, 1, {}, sink_to(late)).ok());
    return Decision{};
  })};
  id = rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.reason(), finish::kLength);
  EXPECT_EQ(late.reason(), finish::kError);
  EXPECT_EQ(late.finished[0].error->code, ErrorCode::not_found);
}

}  // namespace
}  // namespace ponder::engine
