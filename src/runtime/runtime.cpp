// The requests of this process. One control thread loads models, renders prompts and hands sequences to engines. Another
// looks at the callers' cancel flags every 50 ms, whatever the first is busy with: that keeps "within 250 ms" without
// touching the engines' hot path. Which models are in memory: residents.cpp.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/os/system.h"
#include "runtime/backends.h"
#include "runtime/client.h"
#include "runtime/history.h"
#include "runtime/receipt.h"
#include "runtime/replay.h"
#include "runtime/reply.h"
#include "runtime/residents.h"
#include "runtime/show.h"
#include "runtime/turn.h"
#include "runtime/vote_receipt.h"
#include "runtime/voting.h"

namespace ponder::runtime {
namespace {

constexpr auto kTick = std::chrono::milliseconds(50);
constexpr size_t kMostAhead = 8;  // conversations whose next turn is prepared

struct Job {
  ChatRequest request;
  ChatSink sink;
  std::shared_ptr<const CancelFlag> cancel;  // shared with the caller, who sets it
  double submitted = 0;
  std::function<void(Result<Resident*>)> hold;  // instead of a reply: the caller uses the model and releases it
};

class RuntimeImpl : public Runtime {
 public:
  RuntimeImpl(store::Store& store, RuntimeOptions options) : store_(store), options_(std::move(options)) {
    control_ = std::thread([this] { control_loop(); });
    watch_ = std::thread([this] { watch_loop(); });
  }

  ~RuntimeImpl() override {
    {
      std::lock_guard lock(mutex_);
      quit_ = true;
    }
    stopping_ = true;
    wake_.notify_all();
    control_.join();
    watch_.join();
    for (auto& job : queue_) fail(job, {ErrorCode::cancelled, "the server is shutting down"});
    residents_.join();  // before the rest of this object goes: the engines' last reports need it
  }

  void chat(ChatRequest request, ChatSink sink, std::shared_ptr<const CancelFlag> cancel) override {
    add({std::move(request), std::move(sink), std::move(cancel), os::monotonic_seconds(), {}});
  }

  Result<ReplayReport> replay(const std::string& model, const Receipts& receipts, bool force,
                              std::shared_ptr<const CancelFlag> cancel) override {
    const auto promise = std::make_shared<std::promise<Result<Resident*>>>();  // shared with the control thread
    Job job;
    job.request.model = model;
    job.cancel = cancel;
    job.hold = [promise](Result<Resident*> r) { promise->set_value(std::move(r)); };
    add(std::move(job));
    auto held = promise->get_future().get();
    if (!held.ok()) return std::move(held).error();
    auto report = replay_on(*(*held)->model, receipts, force, cancel.get());
    release(*held);
    return report;
  }

  std::vector<RunningModel> running() override {
    std::lock_guard lock(mutex_);
    std::vector<RunningModel> all;
    for (const auto& r : residents_) all.push_back(r.describe());
    return all;
  }

  Result<ShowResult> show(const std::string& model, bool verbose) override {
    PONDER_TRY(auto open, open_model(store_, model, options_.allow_paths));
    return describe_model(*open, verbose);
  }

  Result<void> stop(const std::string& model) override {
    PONDER_TRY(const auto name, store::Name::parse(model));
    std::lock_guard lock(mutex_);
    if (!residents_.stop(name.display())) return Error{ErrorCode::not_found, "model '" + model + "' is not loaded"};
    wake_.notify_all();
    return {};
  }

  Result<std::string> control(const std::string& id, const Control& control) override {
    using Action = reason::Command::Action;
    constexpr std::pair<const char*, Action> kActions[] = {
        {"answer", Action::answer}, {"more", Action::more}, {"note", Action::note}, {"stop", Action::stop}};
    for (const auto& [name, action] : kActions) {
      if (control.action != name) continue;
      PONDER_TRY(const auto phase, desk_.post(id, {action, control.text, control.tokens}));
      return std::string(reason::to_string(phase));
    }
    return Error{ErrorCode::invalid_argument,
                 "unknown action \"" + control.action + "\"; known: answer, more, note, stop"};
  }

  store::Store& store() override { return store_; }

 private:
  struct Active {
    Resident* resident;
    engine::SequenceId id;
    std::shared_ptr<const CancelFlag> cancel;  // shared with the caller
  };

  void add(Job job) {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(job));
      // What is computed ahead gives way at once, also that of other models.
      for (auto& r : residents_)
        if (const auto id = std::exchange(r.ahead_id, 0); id != 0) r.model->engine().cancel(id);
    }
    wake_.notify_all();
  }

  static void fail(const Job& job, Error error) {
    if (job.hold) return job.hold(std::move(error));
    if (job.sink.on_error) job.sink.on_error(std::move(error));
  }

  void control_loop() {
    std::unique_lock lock(mutex_);
    while (!quit_) {
      residents_.unload_expired(lock);
      Job job;
      if (take_job(job)) {
        lock.unlock();
        serve(job);
        lock.lock();
        continue;
      }
      if (work_ahead(lock)) continue;
      if (!queue_.empty() || !residents_.empty()) {
        wake_.wait_for(lock, kTick);
      } else {
        wake_.wait(lock, [&] { return quit_ || !queue_.empty(); });
      }
    }
    for (const auto& a : active_) a.resident->model->engine().cancel(a.id);
  }

  // Callers that hang up: heard also while the control thread loads a model or renders a long prompt.
  void watch_loop() {
    std::unique_lock lock(mutex_);
    while (!quit_) {
      for (const auto& a : active_)
        if (a.cancel && *a.cancel) a.resident->model->engine().cancel(a.id);
      if (active_.empty()) {
        wake_.wait(lock, [&] { return quit_ || !active_.empty(); });
      } else {
        wake_.wait_for(lock, kTick);
      }
    }
  }

  // The first waiting request that can run now: its model is here, or there is room to load it.
  bool take_job(Job& job) {
    for (auto it = queue_.begin(); it != queue_.end(); ++it) {
      const bool cancelled = it->cancel && *it->cancel;
      if (!cancelled && !residents_.has_place_for(it->request)) continue;
      job = std::move(*it);
      queue_.erase(it);
      return true;
    }
    return false;
  }

  void release(Resident* r) {
    std::lock_guard lock(mutex_);
    residents_.release(*r);
    wake_.notify_all();
  }

  void serve(Job& job) {
    if (job.cancel && *job.cancel) return fail(job, {ErrorCode::cancelled, "cancelled before it began"});
    const bool load_only = job.request.messages.empty() && !job.request.raw_prompt && !job.hold;
    if (load_only && job.request.keep_alive == 0.0) {
      (void)stop(job.request.model);
      ChatResult result;
      result.done_reason = "unload";
      if (job.sink.on_done) job.sink.on_done(std::move(result));
      return;
    }
    double load_seconds = 0;
    std::unique_lock lock(mutex_);
    auto resident = residents_.acquire(job.request, job.sink.on_load, job.cancel.get(), &load_seconds, lock);
    if (resident.ok() && job.request.keep_alive) (*resident)->keep_alive = *job.request.keep_alive;
    lock.unlock();
    if (!resident.ok()) return fail(job, std::move(resident).error());
    Resident* r = *resident;
    if (job.hold) return job.hold(r);
    if (load_only) {
      release(r);
      ChatResult result;
      result.done_reason = "load";
      result.load_seconds = load_seconds;
      result.total_seconds = os::monotonic_seconds() - job.submitted;
      if (job.sink.on_done) job.sink.on_done(std::move(result));
      return;
    }
    if (auto begun = begin(job, r, load_seconds); !begun.ok()) {
      release(r);
      fail(job, std::move(begun).error());
    }
  }

  // A reply is over whose thought the next prompt will not have. Under the lock.
  static void prepare_next(Resident& r, const ChatRequest& request, const std::string& thinking,
                           const std::string& content) {
    if (thinking.empty()) return;
    r.ahead.push_back({request, thinking, content});
    if (r.ahead.size() > kMostAhead) r.ahead.pop_front();
  }

  // Gives an idle engine the next turn's beginning of a conversation: without the thought of the last reply, as the
  // template will write it. True if there was something to do.
  bool work_ahead(std::unique_lock<std::mutex>& lock) {
    if (!active_.empty()) return false;
    for (auto& r : residents_) {
      if (r.ahead.empty()) continue;
      if (const auto status = r.model->engine().status(); !status.idle() || status.background > 0) continue;
      const Past past = std::move(r.ahead.back());
      r.ahead.pop_back();
      r.users++;  // stays while the lock is open
      lock.unlock();
      engine::SequenceRequest sequence;
      sequence.prompt = next_history(r.model->open(), past.request, past.thinking, past.content);
      sequence.client = past.request.client;
      sequence.background = true;
      lock.lock();
      r.users--;
      if (!sequence.prompt.empty() && queue_.empty())
        if (auto id = r.model->engine().submit(std::move(sequence)); id.ok()) r.ahead_id = *id;
      return true;
    }
    return false;
  }

  // Makes the request ready and submits it. After success the engine's callbacks own the rest.
  Result<void> begin(Job& job, Resident* r, double load_seconds) {
    auto result = std::make_shared<ChatResult>();  // shared by the callbacks of one reply
    result->load_seconds = load_seconds;
    PONDER_TRY(Turn turn, make_turn(*r->model, job.request, *result));
    PONDER_TRY(turn.ticket, desk_.open(job.request.id));
    result->id = turn.ticket->id();
    if (job.request.vote) return begin_vote(job, r, turn, std::move(*result));
    const Chain chain = make_chain(turn, job.sink.on_delta);
    const auto reply = chain.reply;
    engine::SequenceRequest sequence = turn.sequence;
    sequence.controllers = chain.controllers;
    std::shared_ptr<engine::Recording> recording;  // shared with the engine
    if (job.request.receipt) {
      (void)r->model->digest();  // read now, not on the engine's thread
      (void)build_digest();
      sequence.recording = recording = std::make_shared<engine::Recording>();
    }
    const double submitted = job.submitted;
    sequence.sink.on_token = [result, submitted](const engine::TokenEvent&) {
      if (result->output_tokens++ == 0) result->first_token_seconds = os::monotonic_seconds() - submitted;
    };
    if (job.sink.on_prefill)
      sequence.sink.on_prefill = [f = job.sink.on_prefill](const engine::PrefillProgress& p) { f(p.done, p.total); };
    auto key = std::make_shared<engine::SequenceId>(0);  // known to the callback once submit returned
    sequence.sink.on_finish = [this, r, result, chain, reply, submitted, plain = turn.sequence, recording, key,
                               request = job.request, sink = job.sink](const engine::Finished& finished) {
      reply->on_finish(finished.reason);
      result->done_reason = finished.reason;
      result->cached_tokens = finished.stats.cached_tokens;
      result->output_tokens = finished.stats.output_tokens;
      result->drafted_tokens = finished.stats.draft_tokens;
      result->accepted_tokens = finished.stats.accepted_tokens;
      result->prompt_seconds = finished.stats.prefill_seconds;
      result->decode_seconds = finished.stats.decode_seconds;
      chain.describe(*result);
      result->total_seconds = os::monotonic_seconds() - submitted;
      if (!stopping_) result->memory_bytes = r->model->memory_bytes();
      if (recording && !finished.error && !stopping_) {
        const auto receipt = to_json(make_receipt(*r->model, request.model, plain, *recording, finished.reason));
        result->receipt_json =
            receipt.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // a path is bytes
      }
      result->context = plain.prompt;
      result->context.insert(result->context.end(), reply->tokens().begin(), reply->tokens().end());
      {
        std::lock_guard lock(mutex_);
        std::erase_if(active_, [&](const Active& a) { return a.resident == r && a.id == *key; });
        if (!finished.error && finished.reason != engine::finish::kCancelled)
          prepare_next(*r, request, reply->thinking(), reply->content());
      }
      release(r);
      if (finished.error) {
        if (sink.on_error) sink.on_error(*finished.error);
      } else if (sink.on_done) {
        sink.on_done(std::move(*result));
      }
    };

    // The lock is held over submit so that a reply that ends at once finds itself in `active_`.
    std::lock_guard lock(mutex_);
    PONDER_TRY(const auto id, r->model->engine().submit(std::move(sequence)));
    *key = id;
    active_.push_back({r, id, job.cancel});
    wake_.notify_all();  // somebody to watch
    return {};
  }

  Result<void> begin_vote(Job& job, Resident* r, const Turn& turn, ChatResult result) {
    const reason::VoteOptions options = *job.request.vote;
    auto ids = std::make_shared<std::vector<engine::SequenceId>>();  // known to the callback once all are submitted
    const auto said = std::make_shared<ChatDelta>();                 // the winner; shared by the callbacks of one vote
    std::shared_ptr<VoteTape> tape;                                  // shared with the vote
    if (job.request.receipt) {
      (void)r->model->digest();  // read now, not on the engine's thread
      (void)build_digest();
      tape = std::make_shared<VoteTape>();
    }
    ChatSink sink = job.sink;
    sink.on_delta = [said, deliver = job.sink.on_delta](ChatDelta delta) {
      said->thinking += delta.thinking;
      said->content += delta.content;
      if (deliver) deliver(std::move(delta));
    };
    auto done = [this, r, ids, said, tape, options, plain = turn.sequence, reply = turn.reply, request = job.request,
                 sink = job.sink](Result<ChatResult> outcome) {
      if (outcome.ok() && !stopping_) outcome->memory_bytes = r->model->memory_bytes();
      if (outcome.ok() && tape && !stopping_)
        add_vote_receipt(*r->model, request.model, plain, reply, options, *tape, *outcome);
      {
        std::lock_guard lock(mutex_);
        std::erase_if(active_, [&](const Active& a) {
          return a.resident == r && std::find(ids->begin(), ids->end(), a.id) != ids->end();
        });
        if (outcome.ok() && outcome->done_reason != engine::finish::kCancelled)
          prepare_next(*r, request, said->thinking, said->content);
      }
      release(r);
      if (!outcome.ok()) {
        if (sink.on_error) sink.on_error(std::move(outcome).error());
      } else if (sink.on_done) {
        sink.on_done(std::move(*outcome));
      }
    };
    std::lock_guard lock(mutex_);  // as above
    PONDER_TRY(*ids, start_vote(r->model->engine(), turn, options, sink, std::move(result), job.submitted,
                                std::move(done), tape));
    for (const auto id : *ids) active_.push_back({r, id, job.cancel});
    wake_.notify_all();
    return {};
  }

  store::Store& store_;
  const RuntimeOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  Desk desk_;  // before what holds its tickets
  Residents residents_{store_, options_};
  std::vector<Active> active_;
  bool quit_ = false;
  std::atomic<bool> stopping_{false};
  std::thread control_, watch_;  // last: they start when everything above is there
};

}  // namespace

Result<std::unique_ptr<Runtime>> Runtime::create(store::Store& store, const RuntimeOptions& options) {
  PONDER_CHECK_OK([&]() -> Result<void> {
    PONDER_TRY(auto known, make_backend(options.backend));
    (void)known;
    PONDER_TRY([[maybe_unused]] const int draft,
               parse_draft(options.draft, "the draft length (--draft, PONDER_DRAFT)"));
    return {};
  }());
  return std::unique_ptr<Runtime>(std::make_unique<RuntimeImpl>(store, options));
}

}  // namespace ponder::runtime
