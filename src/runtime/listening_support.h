// For tests of bits: the built-in model in an engine whose every drawing row is heard with its whole logits.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "runtime/direct.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {

using LogitRows = std::vector<std::vector<float>>;
using HearRow = std::function<void(const backend::Row& row, std::span<const float> logits)>;

/// Another plan, whose drawing rows are told.
class ListeningPlan final : public backend::Plan {
 public:
  ListeningPlan(std::unique_ptr<backend::Plan> plan, HearRow hear) : plan_(std::move(plan)), hear_(std::move(hear)) {
    pages_ = std::make_unique<backend::kv::PagePool>(plan_->pages().capacity());
  }
  const backend::MemoryReport& memory_report() const override { return plan_->memory_report(); }
  const backend::PlanInfo& info() const override { return plan_->info(); }
  const model::ModelSpec& spec() const override { return plan_->spec(); }
  Result<void> load(const backend::Progress&, const backend::StopFlag*) override { return {}; }
  Result<void> prepare_page(backend::kv::PageId page) override { return plan_->prepare_page(page); }
  void copy_page(backend::kv::PageId from, backend::kv::PageId to) override { plan_->copy_page(from, to); }
  Result<void> launch(const backend::Batch& batch, const backend::StopFlag* stop) override {
    batch_ = batch;
    for (backend::Row& row : batch_.rows) row.want_logits = row.sampling != nullptr;
    return plan_->launch(batch_, stop);
  }
  Result<std::vector<backend::RowResult>> collect() override {
    auto results = plan_->collect();
    if (results.ok())
      for (size_t i = 0; i < results->size(); ++i)
        if (!(*results)[i].logits.empty()) hear_(batch_.rows[i], (*results)[i].logits);
    return results;
  }

 private:
  std::unique_ptr<backend::Plan> plan_;
  HearRow hear_;
  backend::Batch batch_;
};

inline std::unique_ptr<engine::Engine> listening_engine(const std::string& precision, HearRow hear) {
  RuntimeOptions options;
  options.backend = "cpu";
  options.threads = 2;
  if (!precision.empty()) options.precision = precision;
  auto plan = load_plan(tiny(), options, 8192, 8, {}, nullptr);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return engine::Engine::create(std::make_unique<ListeningPlan>(std::move(*plan), std::move(hear)), {}).value();
}

inline void expect_same_bits(const LogitRows& a, const LogitRows& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].size(), size_t(tiny().tokenizer->vocab_size()));
    ASSERT_EQ(b[i].size(), a[i].size());
    EXPECT_EQ(std::memcmp(a[i].data(), b[i].data(), sizeof(float) * a[i].size()), 0) << "draw " << i;
  }
}

}  // namespace ponder::runtime
