// How sequences begin and end, and in which order events come. What controllers may do: controllers_test.cpp; pages and
// prefixes: residence_test.cpp; random schedules and threads: schedule_test.cpp.
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
