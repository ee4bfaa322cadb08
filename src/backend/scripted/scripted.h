// A backend that plays a script instead of a model: for tests of everything above. Its "KV cache" holds the tokens
// themselves, page by page, and what the script sees is read back through the sequence's page table, so a wrong fork,
// trim, adoption or position shows in the next token. Time can be faked, and failures injected.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace ponder::backend::scripted {

/// Fills `logits` (zeroed before) for the token after `so_far`.
using Script = std::function<void(std::span<const TokenId> so_far, std::span<float> logits)>;

/// Says one token nearly for sure (logit 30 against 0).
Script say(std::function<TokenId(std::span<const TokenId> so_far)> next);
/// Random-looking logits (0 to 8) that depend on every token before and on nothing else.
Script scramble(uint64_t salt);

struct Options {
  int vocab_size = 256;
  int context_length = 1 << 20;
  int n_layers = 4;
  double seconds_per_step = 0, seconds_per_row = 0;  ///< of the fake clock
  /// Called between layers of a batch, with the layer; for cancelling in the middle.
  std::function<void(int layer)> on_layer;
  /// An error here is what launch, collect or prepare_page returns. `step` counts launches from 0.
  std::function<Result<void>(const Batch& batch, int step)> on_launch, on_collect;
  std::function<Result<void>(kv::PageId page)> on_prepare_page;
};

class ScriptedPlan : public Plan {
 public:
  ScriptedPlan(Script script, const PlanOptions& plan_options, const Options& options);

  const MemoryReport& memory_report() const override { return memory_; }
  const PlanInfo& info() const override { return info_; }
  const model::ModelSpec& spec() const override { return spec_; }
  Result<void> load(const Progress& progress, const StopFlag* stop) override;
  Result<void> launch(const Batch& batch, const StopFlag* stop) override;
  Result<std::vector<RowResult>> collect() override;
  Result<void> prepare_page(kv::PageId page) override;
  void copy_page(kv::PageId from, kv::PageId to) override;

  // What a test looks at.
  /// What was asked that no plan should be asked: writes to shared pages, holes in the cache, collect without launch.
  const std::vector<std::string>& faults() const { return faults_; }
  /// One line per batch that was computed: its rows as (token, position) and whether they drew.
  struct SeenRow {
    TokenId token;
    int32_t position;
    bool drew;
  };
  const std::vector<std::vector<SeenRow>>& batches() const { return batches_; }
  int64_t rows_computed() const { return rows_computed_; }
  int abandoned() const { return abandoned_; }
  double now() const { return now_; }  ///< the fake clock, seconds
  void let_time_pass(double seconds) { now_ += seconds; }

 private:
  void fault(const std::string& what) { faults_.push_back(what); }
  std::vector<TokenId> read_back(const SequenceState& sequence, int length);

  Script script_;
  PlanOptions plan_options_;
  Options options_;
  model::ModelSpec spec_;
  MemoryReport memory_;
  PlanInfo info_;

  std::vector<std::vector<TokenId>> cache_;  // by page: 64 tokens, -1 where nothing was written
  Batch batch_;
  const StopFlag* stop_ = nullptr;
  bool in_flight_ = false;
  int step_ = 0, abandoned_ = 0;
  int64_t rows_computed_ = 0;
  double now_ = 0;
  std::vector<std::vector<float>> kept_logits_;
  std::vector<float> scratch_;
  std::vector<std::string> faults_;
  std::vector<std::vector<SeenRow>> batches_;
};

std::unique_ptr<ScriptedPlan> make_plan(Script script, const PlanOptions& plan_options = {},
                                        const Options& options = {});
/// As a backend: compile() takes the vocabulary size of the model, if there is one.
std::unique_ptr<Backend> make_backend(Script script, const Options& options = {});

}  // namespace ponder::backend::scripted
