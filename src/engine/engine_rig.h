// What the engine's tests share: an engine on a scripted plan, a sink that writes everything down, and controllers made
// of lambdas.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/scripted/scripted.h"
#include "engine/engine.h"

namespace ponder::engine {

namespace scripted = backend::scripted;

/// Everything that happened to a sequence.
struct Record {
  std::vector<TokenEvent> events;
  std::vector<PrefillProgress> progress;
  std::vector<Finished> finished;
  std::shared_ptr<char> alive = std::make_shared<char>();  // sinks know this weakly

  std::vector<TokenId> tokens() const {
    std::vector<TokenId> out;
    for (const TokenEvent& e : events) out.push_back(e.token);
    return out;
  }
  std::string reason() const {
    return finished.size() == 1 ? finished[0].reason : "finished " + std::to_string(finished.size()) + " times";
  }
  std::string error() const { return finished.empty() || !finished[0].error ? "" : finished[0].error->message; }
};

/// A record may go before its engine does, which then still tells how its sequences ended: to nobody.
inline Sink sink_to(Record& record) {
  Sink sink;
  const std::weak_ptr<char> alive = record.alive;
  sink.on_token = [&record, alive](const TokenEvent& e) {
    if (alive.expired()) return;
    EXPECT_TRUE(record.finished.empty()) << "a token after the end";
    record.events.push_back(e);
  };
  sink.on_prefill = [&record, alive](const PrefillProgress& p) {
    if (!alive.expired()) record.progress.push_back(p);
  };
  sink.on_finish = [&record, alive](const Finished& f) {
    if (!alive.expired()) record.finished.push_back(f);
  };
  return sink;
}

struct LambdaController : Controller {
  std::function<Decision(std::span<const TokenId>)> start;
  std::function<Decision(const TokenEvent&)> token;
  std::function<Decision()> at_step;
  std::function<sample::MaskWords()> mask_words;
  std::vector<std::string> finishes;

  Decision on_start(std::span<const TokenId> prompt) override { return start ? start(prompt) : Decision{}; }
  Decision on_token(const TokenEvent& e) override { return token ? token(e) : Decision{}; }
  Decision on_step() override { return at_step ? at_step() : Decision{}; }
  sample::MaskWords mask() override { return mask_words ? mask_words() : sample::MaskWords{}; }
  void on_finish(const std::string& reason) override { finishes.push_back(reason); }
};

inline std::shared_ptr<LambdaController> on_token(std::function<Decision(const TokenEvent&)> f) {
  auto c = std::make_shared<LambdaController>();
  c->token = std::move(f);
  return c;
}

struct Rig {
  scripted::ScriptedPlan* plan = nullptr;  // owned by the engine
  std::unique_ptr<Engine> engine;

  explicit Rig(scripted::Script script, EngineOptions options = {}, const scripted::Options& script_options = {},
               int64_t kv_tokens = 1 << 16) {
    backend::PlanOptions plan_options;
    plan_options.kv_tokens = kv_tokens;
    plan_options.max_batch_rows = options.max_batch_rows;
    plan_options.max_output_rows = options.max_output_rows;
    auto made = scripted::make_plan(std::move(script), plan_options, script_options);
    plan = made.get();
    if (!options.clock) options.clock = [p = plan] { return p->now(); };
    engine = Engine::create(std::move(made), options).value();
  }
  ~Rig() {
    if (engine) {
      EXPECT_TRUE(plan->faults().empty()) << plan->faults()[0];
    }
  }
  SequenceId submit(SequenceRequest request) {
    auto id = engine->submit(std::move(request));
    EXPECT_TRUE(id.ok()) << (id.ok() ? "" : id.error().message);
    return id.ok() ? *id : 0;
  }
  void run(int most_steps = 100000) {
    while (engine->step())
      if (--most_steps == 0) {
        ADD_FAILURE() << "the engine does not come to an end";
        return;
      }
  }
};

/// Counts up: the next token is the last one plus one, modulo the vocabulary.
inline scripted::Script count_up(int vocab_size = 256) {
  return scripted::say([vocab_size](std::span<const TokenId> so_far) { return (so_far.back() + 1) % vocab_size; });
}

inline SequenceRequest request(std::vector<TokenId> prompt, Record& record, int max_new_tokens = -1) {
  SequenceRequest r;
  r.prompt = std::move(prompt);
  r.sink = sink_to(record);
  r.max_new_tokens = max_new_tokens;
  r.sampling.temperature = 0;
  return r;
}

inline std::vector<TokenId> range(TokenId begin, TokenId end) {
  std::vector<TokenId> out;
  for (TokenId t = begin; t < end; ++t) out.push_back(t);
  return out;
}

}  // namespace ponder::engine
