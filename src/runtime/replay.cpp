// One engine without company, one sequence at a time. More rows may draw in a step than elsewhere, because all of them
// do. Next to read: engine/replay.cpp.
#include "runtime/replay.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/version.h"
#include "runtime/direct.h"

namespace ponder::runtime {
namespace {
constexpr int kOutputRows = 128;
constexpr size_t kTokensBefore = 24;  // shown before a difference
}  // namespace

int64_t tokens_needed(const Receipt& receipt) {
  int64_t size = int64_t(receipt.sequence.prompt.size()), most = size;
  for (const engine::Action& a : receipt.recording.actions) {
    size += int64_t(a.tokens.size());
    most = std::max(most, size);
    if (a.kind == engine::Action::Kind::rewind) size = a.rewind_to;
  }
  // Drafts beyond the end take room, and the last page is never full.
  return most + kOutputRows + 2 * backend::kv::kPageTokens;
}

Result<std::unique_ptr<Replayer>> Replayer::load(std::shared_ptr<const OpenModel> model, const RuntimeOptions& options,
                                                 int64_t kv_tokens, const std::function<void(double)>& progress,
                                                 const CancelFlag* cancel) {
  auto replayer = std::make_unique<Replayer>();
  replayer->model_ = std::move(model);
  replayer->digest_ = model_digest(*replayer->model_);
  PONDER_TRY(auto plan, load_plan(*replayer->model_, options, kv_tokens, kOutputRows, progress, cancel));
  engine::EngineOptions engine_options;
  engine_options.context_length = 1 << 30;  // every receipt brings its own
  engine_options.max_sequences = 1;
  engine_options.max_output_rows = kOutputRows;
  PONDER_TRY(auto backend_options, plan_options(options));
  engine_options.max_batch_rows = backend_options.max_batch_rows;
  PONDER_TRY(replayer->engine_, engine::Engine::create(std::move(plan), engine_options));
  replayer->engine_->start();
  return replayer;
}

std::string Replayer::objection(const Receipt& r) const {
  const auto& info = engine_->plan().info();
  if (digest_ != r.model_digest)
    return "the receipt is of another model file (sha256 " + r.model_digest.substr(0, 12) + ", here " +
           digest_.substr(0, 12) + ")";
  if (info.numerics_id != r.numerics_id)
    return "the receipt was made with other numerics (" + r.numerics_id + " on " + r.backend + ", here " +
           info.numerics_id + "): the last bits differ, and so may tokens";
  if (backend::to_string(info.kv_format) != r.kv_format)
    return "the receipt was made with a KV cache in " + r.kv_format + ", here it is " +
           backend::to_string(info.kv_format);
  return {};
}

std::vector<std::string> Replayer::remarks(const Receipt& r) const {
  std::vector<std::string> all;
  const auto& info = engine_->plan().info();
  if (r.version != kVersion || r.build_digest != build_digest())
    all.push_back("made by another build (version " + r.version + ", here " + kVersion + ")");
  if (r.device != info.device || r.isa != info.isa)
    all.push_back("made on " + r.device + " (" + r.isa + "), here " + info.device + " (" + info.isa + ")");
  return all;
}

Result<ReplayResult> Replayer::run(const Receipt& r, const CancelFlag* cancel) {
  PONDER_CHECK_OK(engine::Replay::check(r.recording, int(r.sequence.prompt.size()), engine_->plan().spec().vocab_size));
  const auto replay = std::make_shared<engine::Replay>(r.recording, r.done_reason);  // shared with the engine
  std::mutex mutex;
  std::condition_variable ended;
  std::optional<engine::Finished> finished;
  std::vector<tokenizer::TokenId> text;  // what was drawn and forced, as far as it stands; read after the end

  engine::SequenceRequest q = r.sequence;
  q.controllers = {replay};
  q.drafter = replay;
  const size_t prompt = q.prompt.size();
  q.sink.on_token = [&](const engine::TokenEvent& e) {
    text.resize(size_t(e.position) - prompt);
    text.push_back(e.token);
  };
  q.sink.on_finish = [&](const engine::Finished& f) {
    std::lock_guard lock(mutex);
    finished = f;
    ended.notify_all();
  };
  PONDER_TRY(const auto id, engine_->submit(std::move(q)));
  {
    std::unique_lock lock(mutex);
    bool told = false;
    while (!finished) {
      if (!told && cancel != nullptr && *cancel) engine_->cancel(id), told = true;
      ended.wait_for(lock, std::chrono::milliseconds(20));
    }
  }
  if (cancel != nullptr && *cancel) return Error{ErrorCode::cancelled, "cancelled"};
  if (finished->error) return *finished->error;

  ReplayResult result;
  result.prompt_tokens = finished->stats.prompt_tokens;
  result.prompt_seconds = finished->stats.prefill_seconds;
  result.verify_seconds = finished->stats.decode_seconds;
  result.verified_tokens = replay->verified_tokens();
  result.recorded_reason = r.done_reason;
  result.reason = finished->reason;
  const auto& tokenizer = *model_->tokenizer;
  result.output = tokenizer.decode(output_of(r.recording, int(prompt)), true);
  result.difference = replay->difference(finished->reason);
  if (result.difference) {
    const auto& d = *result.difference;
    const size_t at = std::min(text.size(), size_t(std::max(0, d.position - int(prompt))));
    const size_t from = at > kTokensBefore ? at - kTokensBefore : 0;
    result.before = tokenizer.decode(std::span(text).subspan(from, at - from), true);
    const auto piece = [&](tokenizer::TokenId id) {
      return id < 0 ? std::string() : std::string(tokenizer.piece(id, true));
    };
    result.recorded_text = piece(d.recorded);
    result.drawn_text = piece(d.drawn);
  }
  return result;
}

}  // namespace ponder::runtime
