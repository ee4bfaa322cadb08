// The whole of a batch happens in collect(): rows are written to their pages, the tokens before each drawing row are
// read back from the pages, and the script is asked. A stop flag is looked at between the (empty) layers, before
// anything is written. Next to read: engine/loop.cpp, which this exists for.
#include "backend/scripted/scripted.h"

#include <utility>

namespace ponder::backend::scripted {

Script say(std::function<TokenId(std::span<const TokenId>)> next) {
  return [next = std::move(next)](std::span<const TokenId> so_far, std::span<float> logits) {
    const TokenId token = next(so_far);
    if (token >= 0 && size_t(token) < logits.size()) logits[size_t(token)] = 30.f;
  };
}

Script scramble(uint64_t salt) {
  return [salt](std::span<const TokenId> so_far, std::span<float> logits) {
    auto mix = [](uint64_t h) {  // the finaliser of splitmix64 (Steele et al. 2014)
      h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
      h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
      return h ^ (h >> 31);
    };
    uint64_t h = mix(salt + 0x9e3779b97f4a7c15ull);
    for (TokenId t : so_far) h = mix(h ^ uint64_t(uint32_t(t)));
    for (size_t i = 0; i < logits.size(); ++i) logits[i] = float(mix(h + i) >> 40) * 0x1p-21f;
  };
}

ScriptedPlan::ScriptedPlan(Script script, const PlanOptions& plan_options, const Options& options)
    : script_(std::move(script)), plan_options_(plan_options), options_(options) {
  spec_.architecture = "scripted";
  spec_.name = "Scripted";
  spec_.n_layers = options.n_layers;
  spec_.hidden_size = 8;
  spec_.vocab_size = options.vocab_size;
  spec_.context_length = options.context_length;
  model::LayerSpec layer;
  layer.n_heads = layer.n_kv_heads = 1;
  layer.head_dim = 8;
  layer.ffn_size = 8;
  spec_.layers.assign(size_t(options.n_layers), layer);
  memory_.kv_per_token = sizeof(TokenId);
  memory_.kv_capacity = uint64_t(plan_options.kv_tokens) * sizeof(TokenId);
  info_.backend = "scripted";
  info_.device = "script";
  info_.isa = "none";
  info_.numerics_id = "scripted";
  pages_ = std::make_unique<kv::PagePool>(int(plan_options.kv_tokens / kv::kPageTokens));
  cache_.resize(size_t(pages_->capacity()));
}

Result<void> ScriptedPlan::load(const Progress& progress, const StopFlag*) {
  if (progress) progress(1.0);
  return {};
}

Result<void> ScriptedPlan::prepare_page(kv::PageId page) {
  if (options_.on_prepare_page) PONDER_CHECK_OK(options_.on_prepare_page(page));
  cache_[size_t(page)].assign(kv::kPageTokens, -1);
  return {};
}

void ScriptedPlan::copy_page(kv::PageId from, kv::PageId to) {
  if (cache_[size_t(to)].empty()) fault("copy to page " + std::to_string(to) + ", which was never prepared");
  cache_[size_t(to)] = cache_[size_t(from)];
}

Result<void> ScriptedPlan::launch(const Batch& batch, const StopFlag* stop) {
  if (in_flight_) fault("launch while a batch is in flight");
  if (options_.on_launch) {
    auto result = options_.on_launch(batch, step_);
    if (!result.ok()) {
      ++step_;
      return result;
    }
  }
  PONDER_CHECK_OK(validate(batch, spec_, plan_options_));
  batch_ = batch;
  stop_ = stop;
  in_flight_ = true;
  return {};
}

std::vector<TokenId> ScriptedPlan::read_back(const SequenceState& sequence, int length) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < length; ++i) {
    const kv::PageId page = sequence.pages()[size_t(i / kv::kPageTokens)];
    tokens.push_back(cache_[size_t(page)][size_t(i % kv::kPageTokens)]);
    if (tokens.back() < 0) fault("position " + std::to_string(i) + " of a sequence was never written");
  }
  return tokens;
}

Result<std::vector<RowResult>> ScriptedPlan::collect() {
  if (!in_flight_) {
    fault("collect without launch");
    return Error{ErrorCode::internal, "collect without launch"};
  }
  in_flight_ = false;
  const int step = step_++;
  for (int layer = 0; layer < options_.n_layers; ++layer) {
    if (options_.on_layer) options_.on_layer(layer);
    if (stop_ != nullptr && *stop_) {
      ++abandoned_;
      return Error{ErrorCode::cancelled, "the batch was abandoned"};
    }
  }
  if (options_.on_collect) PONDER_CHECK_OK(options_.on_collect(batch_, step));

  now_ += options_.seconds_per_step + options_.seconds_per_row * double(batch_.rows.size());
  rows_computed_ += int64_t(batch_.rows.size());
  for (const Row& row : batch_.rows) {
    const kv::PageId page = row.sequence->pages()[size_t(row.position / kv::kPageTokens)];
    if (pages_->references(page) != 1)
      fault("position " + std::to_string(row.position) + " was written to a shared page");
    cache_[size_t(page)][size_t(row.position % kv::kPageTokens)] = row.token;
  }
  std::vector<RowResult> results(batch_.rows.size());
  std::vector<SeenRow> seen;
  kept_logits_.clear();
  kept_logits_.reserve(batch_.rows.size());
  for (size_t i = 0; i < batch_.rows.size(); ++i) {
    const Row& row = batch_.rows[i];
    seen.push_back({row.token, row.position, row.sampling != nullptr});
    if (row.sampling != nullptr || row.want_logits) {
      kept_logits_.emplace_back(size_t(spec_.vocab_size), 0.f);
      auto& logits = kept_logits_.back();
      script_(read_back(*row.sequence, row.position + 1), logits);
      if (row.sampling != nullptr) results[i].sampled = sample::sample(logits, *row.sampling, scratch_);
      if (row.want_logits) results[i].logits = logits;
    }
  }
  for (const Row& row : batch_.rows) row.sequence->advance(1);
  batches_.push_back(std::move(seen));
  return results;
}

std::unique_ptr<ScriptedPlan> make_plan(Script script, const PlanOptions& plan_options, const Options& options) {
  return std::make_unique<ScriptedPlan>(std::move(script), plan_options, options);
}

namespace {
class ScriptedBackend : public Backend {
 public:
  ScriptedBackend(Script script, const Options& options) : script_(std::move(script)), options_(options) {}
  const char* name() const override { return "scripted"; }
  Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model> model,
                                        const PlanOptions& options) override {
    Options mine = options_;
    if (model) mine.vocab_size = model->spec.vocab_size;
    return std::unique_ptr<Plan>(make_plan(script_, options, mine));
  }

 private:
  Script script_;
  Options options_;
};
}  // namespace

std::unique_ptr<Backend> make_backend(Script script, const Options& options) {
  return std::make_unique<ScriptedBackend>(std::move(script), options);
}

}  // namespace ponder::backend::scripted
