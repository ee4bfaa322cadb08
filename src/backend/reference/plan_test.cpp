// What the reference promises as a Plan: the same bits however a prompt is cut, batched or
// threaded; forks; stopping; and errors instead of crashes. On a small random model of
// tests/golden/logits.
#include <gtest/gtest.h>

#include "backend/reference/reference.h"
#include "backend/testing.h"

namespace ponder::backend::reference {
namespace {

using namespace ponder::backend::testing;
using Logits = std::vector<std::vector<float>>;

std::unique_ptr<Plan> make_plan(PlanOptions options = {}, const char* name = "qwen2-untied") {
  const auto model = load_model(PONDER_SOURCE_DIR "/tests/golden/logits/" + std::string(name) + ".gguf");
  EXPECT_TRUE(model.ok()) << model.error().message;
  options.kv_tokens = 512;
  options.max_output_rows = 200;
  auto plan = make_backend()->compile(*model, options);
  EXPECT_TRUE(plan.ok() && (*plan)->load({}, nullptr).ok());
  return std::move(*plan);
}

std::vector<TokenId> some_ids(int n) {
  std::vector<TokenId> ids;
  for (int i = 0; i < n; ++i) ids.push_back((i * i * 7 + i * 31 + 5) % 96);
  return ids;
}

Logits all_logits(Plan& plan, std::span<const TokenId> ids, int chunk) {
  Logits out;
  const auto run =
      run_window(plan, ids, {}, chunk, [&](int, std::span<const float> l) { out.emplace_back(l.begin(), l.end()); });
  EXPECT_TRUE(run.ok()) << run.error().message;
  return out;
}

TEST(ReferencePlan, SameBitsForAnyChunkAndThreads) {
  for (const KvFormat format : {KvFormat::f16, KvFormat::f32}) {
    auto one = make_plan({.threads = 1, .kv_format = format}), three = make_plan({.threads = 3, .kv_format = format});
    const auto ids = some_ids(150);
    const Logits whole = all_logits(*one, ids, 150);
    EXPECT_EQ(whole, all_logits(*one, ids, 1));
    EXPECT_EQ(whole, all_logits(*three, ids, 13));
    EXPECT_EQ(one->pages().used(), 0);
  }
}

TEST(ReferencePlan, KvFormatsDifferALittle) {
  auto half = make_plan({.kv_format = KvFormat::f16}), single = make_plan({.kv_format = KvFormat::f32});
  const Logits a = all_logits(*half, some_ids(80), 80), b = all_logits(*single, some_ids(80), 80);
  RelativeL2 distance;
  for (size_t i = 0; i < a.size(); ++i) distance.add(a[i], b[i]);
  EXPECT_GT(distance.value(), 1e-6);
  EXPECT_LT(distance.value(), 2e-3);
  EXPECT_EQ(half->memory_report().kv_per_token * 2, single->memory_report().kv_per_token);
  EXPECT_EQ(single->memory_report().kv_per_token, 2u * 2 * 24 * 4);
}

TEST(ReferencePlan, MixedBatchAndForks) {
  auto plan = make_plan();
  const auto ids = some_ids(70);
  const Logits alone = all_logits(*plan, ids, 70);
  // A prefix shared by a fork, then both sequences in one batch, with different next tokens.
  auto a = plan->new_state();
  ASSERT_TRUE(a->reserve(68).ok());
  Batch prefix;
  for (int p = 0; p < 68; ++p) prefix.rows.push_back({.sequence = a.get(), .token = ids[size_t(p)], .position = p});
  ASSERT_TRUE(plan->launch(prefix, nullptr).ok());
  EXPECT_EQ(a->length(), 0);
  ASSERT_TRUE(plan->collect().ok());
  EXPECT_EQ(a->length(), 68);
  auto b = a->fork();
  ASSERT_TRUE(a->reserve(2).ok() && b->reserve(1).ok());
  Batch both;
  both.rows.push_back({.sequence = b.get(), .token = 3, .position = 68, .want_logits = true});
  both.rows.push_back({.sequence = a.get(), .token = ids[68], .position = 68, .want_logits = true});
  both.rows.push_back({.sequence = a.get(), .token = ids[69], .position = 69, .want_logits = true});
  ASSERT_TRUE(plan->launch(both, nullptr).ok());
  const auto results = plan->collect();
  ASSERT_TRUE(results.ok());
  const auto row = [&](int i) {
    return std::vector<float>((*results)[size_t(i)].logits.begin(), (*results)[size_t(i)].logits.end());
  };
  EXPECT_EQ(row(1), alone[68]);
  EXPECT_EQ(row(2), alone[69]);
  EXPECT_NE(row(0), alone[68]);
}

TEST(ReferencePlan, DrawsAndStops) {
  auto plan = make_plan();
  auto s = plan->new_state();
  ASSERT_TRUE(s->reserve(2).ok());
  sample::Params greedy;
  greedy.temperature = 0;
  sample::Request request;
  request.params = &greedy;
  Batch batch;
  batch.rows.push_back({.sequence = s.get(), .token = 1, .position = 0, .sampling = &request, .want_logits = true});
  StopFlag stop{true};
  ASSERT_TRUE(plan->launch(batch, &stop).ok());
  const auto stopped = plan->collect();
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_EQ(s->length(), 0);
  stop = false;
  ASSERT_TRUE(plan->launch(batch, &stop).ok());
  const auto results = plan->collect();
  ASSERT_TRUE(results.ok());
  const auto& logits = (*results)[0].logits;
  EXPECT_EQ((*results)[0].sampled.token, TokenId(std::max_element(logits.begin(), logits.end()) - logits.begin()));
}

TEST(ReferencePlan, MisuseIsAnError) {
  auto plan = make_plan();
  EXPECT_FALSE(plan->collect().ok());
  EXPECT_FALSE(plan->launch({}, nullptr).ok());
  auto s = plan->new_state();
  ASSERT_TRUE(s->reserve(1).ok());
  Batch batch;
  batch.rows.push_back({.sequence = s.get(), .token = 96, .position = 0});
  EXPECT_FALSE(plan->launch(batch, nullptr).ok());
  const auto model = load_model(PONDER_SOURCE_DIR "/tests/golden/logits/llama-tied.gguf");
  ASSERT_TRUE(model.ok());
  EXPECT_FALSE(make_backend()->compile(*model, {.max_batch_rows = 0}).ok());
  auto unloaded = make_backend()->compile(*model, {});
  ASSERT_TRUE(unloaded.ok());
  EXPECT_FALSE((*unloaded)->launch(batch, nullptr).ok());
}

}  // namespace
}  // namespace ponder::backend::reference
