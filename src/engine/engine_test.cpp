// How sequences begin and end, what controllers may do, and in which order events come. Pages and prefixes:
// residence_test.cpp; random schedules and threads: schedule_test.cpp.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include "engine/engine_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

TEST(Engine, GeneratesUntilTheLength) {
  Rig rig(count_up());
  Record r;
  rig.submit(request({10, 11}, r, 4));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{12, 13, 14, 15}));
  EXPECT_EQ(r.reason(), finish::kLength);
  EXPECT_EQ(r.events[0].position, 2);
  EXPECT_EQ(r.events[3].position, 5);
  EXPECT_FALSE(r.events[0].forced);
  EXPECT_EQ(r.finished[0].stats.prompt_tokens, 2);
  EXPECT_EQ(r.finished[0].stats.output_tokens, 4);
  EXPECT_EQ(rig.plan->rows_computed(), 2 + 3);  // the last token is never fed
  EXPECT_TRUE(rig.engine->status().idle());
}

TEST(Engine, EndTokenStops) {
  Rig rig(count_up());
  Record r;
  auto q = request({10}, r, 3);
  q.end_tokens = {99, 13};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), (Tokens{11, 12, 13}));
  EXPECT_TRUE(r.events[2].end);
  EXPECT_FALSE(r.events[1].end);
  EXPECT_EQ(r.reason(), finish::kStop);  // although the length was reached too
}

TEST(Engine, FullContextIsStated) {
  EngineOptions options;
  options.context_length = 8;
  Rig rig(count_up(), options);
  Record r, own;
  rig.submit(request({10, 11}, r));
  auto q = request({10, 11}, own);
  q.context_length = 5;
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), range(12, 18));
  EXPECT_EQ(r.reason(), finish::kContext);
  EXPECT_EQ(own.tokens(), range(12, 15));
  EXPECT_EQ(own.reason(), finish::kContext);
}

TEST(Engine, RefusesAtOnceWhatCanNotBe) {
  EngineOptions options;
  options.context_length = 100;
  Rig rig(count_up(), options, {}, 64);
  Record r;
  EXPECT_EQ(rig.engine->submit(request({}, r)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(rig.engine->submit(request({1, 256}, r)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(rig.engine->submit(request({-1}, r)).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(rig.engine->submit(request(Tokens(100, 1), r)).error().code, ErrorCode::out_of_range);
  EXPECT_EQ(rig.engine->submit(request(Tokens(70, 1), r)).error().code, ErrorCode::out_of_memory);
  auto q = request({1}, r);
  q.sampling.temperature = -1;
  EXPECT_EQ(rig.engine->submit(std::move(q)).error().code, ErrorCode::invalid_argument);
  rig.run();
  EXPECT_TRUE(r.finished.empty());
  EngineOptions bad;
  bad.max_sequences = 0;
  EXPECT_FALSE(Engine::create(scripted::make_plan(count_up()), bad).ok());
  EXPECT_FALSE(Engine::create(nullptr, {}).ok());
}

TEST(Engine, NothingToDo) {
  Rig rig(count_up());
  EXPECT_FALSE(rig.engine->step());
  Record r;
  rig.submit(request({1}, r, 0));
  rig.run();
  EXPECT_EQ(r.reason(), finish::kLength);
  EXPECT_TRUE(r.events.empty());
}

TEST(Engine, MoreSequencesThanPlacesWait) {
  EngineOptions options;
  options.max_sequences = 2;
  Rig rig(count_up(), options);
  std::vector<Record> records(7);
  for (size_t i = 0; i < records.size(); ++i) rig.submit(request({TokenId(20 * i)}, records[i], 5));
  EXPECT_EQ(rig.engine->status().waiting, 7);
  rig.engine->step();
  EXPECT_EQ(rig.engine->status().running, 2);
  EXPECT_EQ(rig.engine->status().waiting, 5);
  rig.run();
  for (size_t i = 0; i < records.size(); ++i)
    EXPECT_EQ(records[i].tokens(), range(TokenId(20 * i + 1), TokenId(20 * i + 6))) << i;
}

TEST(Engine, LogprobsComeWithTheToken) {
  Rig rig(count_up());
  Record r;
  auto q = request({10}, r, 1);
  q.top_logprobs = 2;
  rig.submit(std::move(q));
  rig.run();
  ASSERT_EQ(r.events[0].sampled.top.size(), 2u);
  EXPECT_EQ(r.events[0].sampled.top[0].token, 11);
  EXPECT_NEAR(r.events[0].sampled.logprob, 0.f, 1e-5);
}

TEST(Engine, ForbiddingEverythingIsAnError) {
  Rig rig(count_up());
  Record r;
  const std::vector<uint32_t> none(8, 0);
  auto c = std::make_shared<LambdaController>();
  c->mask_words = [&] { return sample::MaskWords(none); };
  auto q = request({10}, r);
  q.controllers = {c};
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.reason(), finish::kError);
  EXPECT_NE(r.error().find("forbidden"), std::string::npos);
  EXPECT_EQ(c->finishes, (std::vector<std::string>{"error"}));
}

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

TEST(Cancel, RunningAndWaiting) {
  EngineOptions options;
  options.max_sequences = 1;
  Rig rig(count_up(), options);
  Record running, waiting, queued;
  const auto a = rig.submit(request({10}, running));
  const auto b = rig.submit(request({10}, waiting));
  rig.engine->step();
  const auto c = rig.submit(request({10}, queued));
  rig.engine->cancel(c);
  rig.engine->cancel(b);
  rig.engine->step();
  EXPECT_EQ(waiting.reason(), finish::kCancelled);
  EXPECT_EQ(queued.reason(), finish::kCancelled);
  EXPECT_TRUE(running.finished.empty());
  const size_t so_far = running.events.size();
  rig.engine->cancel(a);
  rig.engine->cancel(a);
  rig.engine->cancel(12345);
  rig.run();
  EXPECT_EQ(running.reason(), finish::kCancelled);
  EXPECT_EQ(running.events.size(), so_far);
  rig.engine->cancel(a);
  EXPECT_FALSE(rig.engine->step());
}

TEST(Cancel, ABatchWithOnlyCancelledSequencesIsAbandoned) {
  Engine* engine = nullptr;
  std::vector<SequenceId> cancel_in_flight;
  scripted::Options options;
  options.on_layer = [&](int layer) {
    if (layer == 1)
      for (SequenceId id : cancel_in_flight) engine->cancel(id);
  };
  Rig rig(count_up(), {}, options);
  engine = rig.engine.get();
  Record a, b, c;
  const auto ia = rig.submit(request({10}, a)), ib = rig.submit(request({20}, b));
  rig.submit(request({30}, c, 10));
  rig.engine->step();
  // One of three: the batch goes on for the others, and nothing more is heard of the cancelled one.
  cancel_in_flight = {ia};
  rig.engine->step();
  EXPECT_EQ(rig.plan->abandoned(), 0);
  EXPECT_EQ(a.reason().substr(0, 8), "finished");
  EXPECT_EQ(a.events.size(), 1u);
  EXPECT_EQ(b.events.size(), 2u);
  cancel_in_flight.clear();
  rig.engine->step();
  EXPECT_EQ(a.reason(), finish::kCancelled);
  EXPECT_EQ(a.events.size(), 1u);
  rig.engine->cancel(ib);
  rig.run();
  EXPECT_EQ(c.tokens(), range(31, 41));
  // All of the batch: given up between layers.
  Record d;
  const auto id = rig.submit(request({40}, d));
  rig.engine->step();
  cancel_in_flight = {id};
  rig.engine->step();
  EXPECT_EQ(rig.plan->abandoned(), 1);
  rig.run();
  EXPECT_EQ(d.reason(), finish::kCancelled);
  EXPECT_EQ(d.events.size(), 1u);
}

TEST(Errors, OfThePlanEndTheSequencesConcerned) {
  for (bool at_launch : {true, false}) {
    scripted::Options options;
    auto fail = [](const backend::Batch&, int step) -> Result<void> {
      if (step == 2) return Error{ErrorCode::io, "the device went away"};
      return {};
    };
    (at_launch ? options.on_launch : options.on_collect) = fail;
    EngineOptions engine_options;
    engine_options.max_sequences = 2;
    Rig rig(count_up(), engine_options, options);
    Record a, b, later;
    rig.submit(request({10}, a, 10));
    rig.submit(request({20}, b, 10));
    rig.submit(request({30}, later, 3));
    rig.run();
    EXPECT_EQ(a.tokens(), (Tokens{11, 12}));
    EXPECT_EQ(a.reason(), finish::kError);
    EXPECT_EQ(a.error(), "the device went away");
    EXPECT_EQ(b.reason(), finish::kError);
    EXPECT_EQ(later.tokens(), (Tokens{31, 32, 33}));
    EXPECT_EQ(later.reason(), finish::kLength);
  }
}

TEST(Destructor, CancelsEverything) {
  Record running, waiting, queued, refused;
  auto c = std::make_shared<LambdaController>();
  EngineOptions options;
  options.max_sequences = 1;
  Rig rig(count_up(), options);
  Engine* engine = rig.engine.get();
  auto q = request({10}, running);
  q.controllers = {c};
  q.sink.on_finish = [&](const Finished& f) {
    running.finished.push_back(f);
    EXPECT_FALSE(engine->submit(request({1}, refused)).ok());
  };
  rig.submit(std::move(q));
  rig.submit(request({10}, waiting));
  rig.engine->step();
  rig.submit(request({10}, queued));
  rig.engine.reset();
  for (const Record* r : {&running, &waiting, &queued}) EXPECT_EQ(r->reason(), finish::kCancelled);
  EXPECT_EQ(c->finishes, (std::vector<std::string>{"cancelled"}));
}

TEST(Events, SubmitFromWithinCallbacks) {
  Rig rig(count_up());
  Record first, second;
  auto q = request({10}, first, 2);
  q.sink.on_finish = [&](const Finished& f) {
    first.finished.push_back(f);
    EXPECT_TRUE(rig.engine->submit(request({20}, second, 2)).ok());
  };
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(second.tokens(), (Tokens{21, 22}));
}

}  // namespace
}  // namespace ponder::engine
