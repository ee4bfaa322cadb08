// `ponder replay` has an engine without company, one sequence at a time; more rows may draw in a step than elsewhere,
// because all of them do. Next to read: engine/replay.cpp.
#include "runtime/replay.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/version.h"
#include "runtime/direct.h"

namespace ponder::runtime {
namespace {
constexpr int kOutputRows = 256;
constexpr double kStepSeconds = 2;    // nobody waits for a step to end
constexpr size_t kTokensBefore = 24;  // shown before a difference
}  // namespace

// Tokens of prompt and reply when they were most.
static int64_t longest_text(const Receipt& receipt) {
  int64_t size = int64_t(receipt.sequence.prompt.size()), most = size;
  for (const engine::Action& a : receipt.recording.actions) {
    size += int64_t(a.tokens.size());
    most = std::max(most, size);
    if (a.kind == engine::Action::Kind::rewind) size = a.rewind_to;
  }
  return most;
}

int64_t tokens_needed(const Receipt& receipt) {
  // Drafts beyond the end take room, and the last page is never full.
  return longest_text(receipt) + kOutputRows + 2 * backend::kv::kPageTokens;
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
  engine_options.target_step_seconds = kStepSeconds;
  PONDER_TRY(auto backend_options, plan_options(options));
  engine_options.max_batch_rows = backend_options.max_batch_rows;
  PONDER_TRY(replayer->engine_, engine::Engine::create(std::move(plan), engine_options));
  replayer->engine_->start();
  return replayer;
}

int ReplayReport::differing_chain() const {
  for (size_t i = 0; i < chains.size(); ++i)
    if (chains[i].difference) return int(i);
  return -1;
}

bool ReplayReport::equal() const {
  return differing_chain() < 0 && (!recorded_vote || (vote && recorded_vote->same_outcome(*vote)));
}

nlohmann::json to_json(const ReplayReport& report) {
  int tokens = 0;
  double prompt_seconds = 0, seconds = 0;
  for (const ReplayResult& r : report.chains) {
    tokens += r.verified_tokens;
    prompt_seconds += r.prompt_seconds;
    seconds += r.verify_seconds;
  }
  nlohmann::json j = {{"equal", report.equal()},
                      {"verified_tokens", tokens},
                      {"prompt_tokens", report.chains.empty() ? 0 : report.chains[0].prompt_tokens},
                      {"prompt_seconds", prompt_seconds},
                      {"verify_seconds", seconds},
                      {"remarks", report.remarks}};
  if (report.recorded_vote) j["chains"] = report.chains.size();
  const auto outcome = [](const VoteRecord& v) {
    return nlohmann::json{{"decided", v.decided}, {"settled", v.settled}, {"winner", v.winner}, {"answer", v.answer}};
  };
  if (report.vote && report.recorded_vote)
    j["vote"] = {{"recorded", outcome(*report.recorded_vote)}, {"again", outcome(*report.vote)}};
  if (const int i = report.differing_chain(); i >= 0) {
    const ReplayResult& r = report.chains[size_t(i)];
    j["difference"] = {{"index", r.difference->index},
                       {"position", r.difference->position},
                       {"recorded", r.difference->recorded},
                       {"recorded_text", r.recorded_text},
                       {"drawn", r.difference->drawn},
                       {"drawn_text", r.drawn_text},
                       {"before", r.before},
                       {"recorded_reason", r.recorded_reason},
                       {"reason", r.reason}};
    if (report.recorded_vote) j["difference"]["chain"] = i;
  }
  return j;
}

std::string replay_objection(const Receipt& r, const backend::PlanInfo& info, const std::string& digest) {
  if (digest != r.model_digest)
    return "the receipt is of another model file (sha256 " + r.model_digest.substr(0, 12) + ", here " +
           digest.substr(0, 12) + ")";
  if (info.numerics_id != r.numerics_id)
    return "the receipt was made with other numerics (" + r.numerics_id + " on " + r.backend + ", here " +
           info.numerics_id + "): the last bits differ, and so may tokens";
  if (backend::to_string(info.kv_format) != r.kv_format)
    return "the receipt was made with a KV cache in " + r.kv_format + ", here it is " +
           backend::to_string(info.kv_format);
  return {};
}

std::vector<std::string> replay_remarks(const Receipt& r, const backend::PlanInfo& info) {
  std::vector<std::string> all;
  if (r.version != kVersion || r.build_digest != build_digest())
    all.push_back("made by another build (version " + r.version + ", here " + kVersion + ")");
  if (r.device != info.device || r.isa != info.isa)
    all.push_back("made on " + r.device + " (" + r.isa + "), here " + info.device + " (" + info.isa + ")");
  return all;
}

Result<engine::SequenceId> start_replay(engine::Engine& engine, const OpenModel& model, const Receipt& r,
                                        std::function<void(Result<ReplayResult>)> done) {
  PONDER_CHECK_OK(engine::Replay::check(r.recording, int(r.sequence.prompt.size()), engine.plan().spec().vocab_size));
  // Shared by the callbacks and the engine.
  const auto replay = std::make_shared<engine::Replay>(r.recording, r.done_reason);
  const auto text = std::make_shared<std::vector<tokenizer::TokenId>>();  // drawn and forced, as far as it stands
  engine::SequenceRequest q = r.sequence;
  q.controllers = {replay};
  q.drafter = replay;
  q.index_reply = false;
  const size_t prompt = q.prompt.size();
  q.sink.on_token = [text, prompt](const engine::TokenEvent& e) {
    text->resize(size_t(e.position) - prompt);
    text->push_back(e.token);
  };
  q.sink.on_finish = [=, tokenizer = model.tokenizer, reason = r.done_reason, end = std::move(done),
                      recorded = output_of(r.recording, int(prompt))](const engine::Finished& f) {
    if (f.error) return end(*f.error);
    ReplayResult result;
    result.prompt_tokens = f.stats.prompt_tokens;
    result.prompt_seconds = f.stats.prefill_seconds;
    result.verify_seconds = f.stats.decode_seconds;
    result.verified_tokens = replay->verified_tokens();
    result.recorded_reason = reason;
    result.reason = f.reason;
    result.output = tokenizer->decode(recorded, true);
    result.difference = replay->difference(f.reason);
    if (result.difference) {
      const auto& d = *result.difference;
      const size_t at = std::min(text->size(), size_t(std::max(0, d.position - int(prompt))));
      const size_t from = at > kTokensBefore ? at - kTokensBefore : 0;
      result.before = tokenizer->decode(std::span(*text).subspan(from, at - from), true);
      const auto piece = [&](tokenizer::TokenId id) {
        return id < 0 ? std::string() : std::string(tokenizer->piece(id, true));
      };
      result.recorded_text = piece(d.recorded);
      result.drawn_text = piece(d.drawn);
    }
    end(std::move(result));
  };
  return engine.submit(std::move(q));
}

Result<ReplayReport> replay_all(engine::Engine& engine, const OpenModel& model, const Receipts& receipts,
                                const CancelFlag* cancel) {
  ReplayReport report;
  report.recorded_vote = receipts.vote;
  report.remarks = replay_remarks(receipts.chains[0], engine.plan().info());
  for (const Receipt& receipt : receipts.chains) {
    std::mutex mutex;
    std::condition_variable ended;
    std::optional<Result<ReplayResult>> outcome;
    PONDER_TRY(const auto id, start_replay(engine, model, receipt, [&](Result<ReplayResult> r) {
                 std::lock_guard lock(mutex);
                 outcome = std::move(r);
                 ended.notify_all();
               }));
    {
      std::unique_lock lock(mutex);
      bool told = false;
      while (!outcome) {
        if (!told && cancel != nullptr && *cancel) engine.cancel(id), told = true;
        ended.wait_for(lock, std::chrono::milliseconds(20));
      }
    }
    if (cancel != nullptr && *cancel) return Error{ErrorCode::cancelled, "cancelled"};
    if (!outcome->ok()) return std::move(*outcome).error();
    report.chains.push_back(std::move(**outcome));
    if (report.chains.back().difference) return report;
  }
  if (receipts.vote) report.vote = vote_again(receipts, model);
  return report;
}

Result<ReplayReport> replay_on(LoadedModel& model, const Receipts& receipts, bool force, const CancelFlag* cancel) {
  const auto why = replay_objection(receipts.chains[0], model.engine().plan().info(), model.digest());
  if (!why.empty() && !force)
    return Error{ErrorCode::invalid_argument, why + "; \"force\": true replays it all the same"};
  for (const Receipt& chain : receipts.chains)
    if (const int64_t size = longest_text(chain); size > model.context_limit())
      return Error{ErrorCode::out_of_range, "the receipt's text has " + std::to_string(size) +
                                                " tokens, and here is memory for " +
                                                std::to_string(model.context_limit())};
  auto report = replay_all(model.engine(), model.open(), receipts, cancel);
  if (report.ok() && !why.empty()) report->remarks.push_back(why);
  return report;
}

std::string Replayer::objection(const Receipt& r) const { return replay_objection(r, engine_->plan().info(), digest_); }

Result<ReplayReport> Replayer::run(const Receipts& receipts, const CancelFlag* cancel) {
  return replay_all(*engine_, *model_, receipts, cancel);
}

}  // namespace ponder::runtime
