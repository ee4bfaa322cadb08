// A turn whose beginning was computed ahead has the logits of one that was not: whole rows, bit by bit, on the processor.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "engine/engine.h"
#include "runtime/direct.h"
#include "runtime/history.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

using Logits = std::vector<std::vector<float>>;

// Another plan, of which the logits of every drawing row are kept.
class Listening final : public backend::Plan {
 public:
  Listening(std::unique_ptr<backend::Plan> plan, Logits& heard) : plan_(std::move(plan)), heard_(heard) {
    pages_ = std::make_unique<backend::kv::PagePool>(plan_->pages().capacity());
  }
  const backend::MemoryReport& memory_report() const override { return plan_->memory_report(); }
  const backend::PlanInfo& info() const override { return plan_->info(); }
  const model::ModelSpec& spec() const override { return plan_->spec(); }
  Result<void> load(const backend::Progress&, const backend::StopFlag*) override { return {}; }
  Result<void> prepare_page(backend::kv::PageId page) override { return plan_->prepare_page(page); }
  void copy_page(backend::kv::PageId from, backend::kv::PageId to) override { plan_->copy_page(from, to); }
  Result<void> launch(const backend::Batch& batch, const backend::StopFlag* stop) override {
    backend::Batch more = batch;
    for (backend::Row& row : more.rows) row.want_logits = row.sampling != nullptr;
    return plan_->launch(more, stop);
  }
  Result<std::vector<backend::RowResult>> collect() override {
    auto results = plan_->collect();
    if (results.ok())
      for (const auto& r : *results)
        if (!r.logits.empty()) heard_.emplace_back(r.logits.begin(), r.logits.end());
    return results;
  }

 private:
  std::unique_ptr<backend::Plan> plan_;
  Logits& heard_;
};

struct Heard {
  Logits logits;
  std::vector<engine::TokenId> tokens;
  int cached = 0;
};

// `ahead`: prompts that are computed in the background first.
Heard run(const std::vector<engine::TokenId>& prompt, const std::vector<std::vector<engine::TokenId>>& ahead) {
  Heard h;
  RuntimeOptions options;
  options.backend = "cpu";
  options.threads = 2;
  auto plan = load_plan(tiny(), options, 4096, 8, {}, nullptr);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  auto engine = engine::Engine::create(std::make_unique<Listening>(std::move(*plan), h.logits), {}).value();
  const auto finish = [&] {
    while (engine->step()) {
    }
  };
  for (const auto& tokens : ahead) {
    engine::SequenceRequest q;
    q.prompt = tokens;
    q.background = true;
    EXPECT_TRUE(engine->submit(std::move(q)).ok());
    finish();
  }
  EXPECT_TRUE(h.logits.empty());
  engine::SequenceRequest q;
  q.prompt = prompt;
  q.max_new_tokens = 12;
  q.sampling.seed = 5;
  q.sink.on_token = [&](const engine::TokenEvent& e) { h.tokens.push_back(e.token); };
  q.sink.on_finish = [&](const engine::Finished& f) { h.cached = f.stats.cached_tokens; };
  EXPECT_TRUE(engine->submit(std::move(q)).ok());
  finish();
  return h;
}

TEST(WarmLogits, AreThoseOfAColdRunBitByBit) {
  ChatRequest first;
  first.model = "tiny";
  first.messages = {say("user", "Tell me all the numbers from one to one hundred, and then what comes after them.")};
  std::string answer;
  for (int i = 1; i <= 90; ++i) answer += std::to_string(i) + ", ";
  const std::string thought = "The user wants numbers. " + answer + answer;
  const auto ahead = next_history(tiny(), first, thought, answer);

  auto second = first;
  second.messages.push_back(say("assistant", answer, thought));
  second.messages.push_back(say("user", "And backwards?"));
  tokenizer::EncodeOptions encode;
  encode.add_bos = true;
  const auto prompt = tiny().tokenizer->encode(tiny().render(second).value(), encode);
  ASSERT_GT(prompt.size(), 250u);

  const Heard warm = run(prompt, {ahead}), cold = run(prompt, {});
  EXPECT_EQ(cold.cached, 0);
  EXPECT_GE(warm.cached, 192) << "the test shows nothing";
  EXPECT_EQ(warm.tokens, cold.tokens);
  ASSERT_EQ(warm.logits.size(), cold.logits.size());
  ASSERT_GE(warm.logits.size(), 2u);
  for (size_t i = 0; i < warm.logits.size(); ++i) {
    ASSERT_EQ(warm.logits[i].size(), size_t(tiny().tokenizer->vocab_size()));
    EXPECT_EQ(std::memcmp(warm.logits[i].data(), cold.logits[i].data(), sizeof(float) * cold.logits[i].size()), 0) << i;
  }
}

}  // namespace
}  // namespace ponder::runtime
