// The models of this process. One control thread loads models, renders prompts and hands sequences to engines; a look
// at cancel flags and idle models every 50 ms keeps "within 250 ms" without touching the engines' hot path.
// Why this file is long: queue, residents and running requests are one state under one lock.
#include <algorithm>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <future>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/os/system.h"
#include "runtime/backends.h"
#include "runtime/client.h"
#include "runtime/history.h"
#include "runtime/loaded_model.h"
#include "runtime/receipt.h"
#include "runtime/replay.h"
#include "runtime/reply.h"
#include "runtime/show.h"
#include "runtime/turn.h"
#include "runtime/vote_receipt.h"
#include "runtime/voting.h"

namespace ponder::runtime {
namespace {

constexpr auto kTick = std::chrono::milliseconds(50);
constexpr size_t kMostAhead = 8;  // conversations whose next turn is prepared

struct Resident;

struct Job {
  ChatRequest request;
  ChatSink sink;
  std::shared_ptr<const CancelFlag> cancel;  // shared with the caller, who sets it
  double submitted = 0;
  std::function<void(Result<Resident*>)> hold;  // instead of a reply: the caller uses the model and releases it
};

// A turn that is over: the next one's beginning may be computed while nothing else is to be done.
struct Past {
  ChatRequest request;
  std::string thinking, content;
};

// A model in memory with what keeps it there.
struct Resident {
  std::unique_ptr<LoadedModel> model;
  std::string name;
  int threads = 0;  // it was loaded with (num_thread)
  int users = 0;    // requests that hold it
  double idle_since = 0;
  double keep_alive = 300;          // seconds; negative: for ever
  std::deque<Past> ahead;           // newest last
  engine::SequenceId ahead_id = 0;  // what the engine was last given of those
};

class RuntimeImpl : public Runtime {
 public:
  RuntimeImpl(store::Store& store, RuntimeOptions options) : store_(store), options_(std::move(options)) {
    control_ = std::thread([this] { control_loop(); });
  }

  ~RuntimeImpl() override {
    {
      std::lock_guard lock(mutex_);
      quit_ = true;
    }
    stopping_ = true;
    wake_.notify_all();
    control_.join();
    for (auto& job : queue_) fail(job, {ErrorCode::cancelled, "the server is shutting down"});
    // Engines cancel their sequences and report them while they are joined; the reports still need this object.
    for (auto& r : residents_) r.model.reset();
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
    for (const auto& r : residents_) all.push_back(describe(r));
    return all;
  }

  Result<ShowResult> show(const std::string& model, bool verbose) override {
    PONDER_TRY(auto open, open_model(store_, model, options_.allow_paths));
    return describe_model(*open, verbose);
  }

  Result<void> stop(const std::string& model) override {
    PONDER_TRY(const auto name, store::Name::parse(model));
    std::lock_guard lock(mutex_);
    for (auto& r : residents_)
      if (r.name == name.display()) {
        r.keep_alive = 0;
        wake_.notify_all();
        return {};
      }
    return Error{ErrorCode::not_found, "model '" + model + "' is not loaded"};
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

  RunningModel describe(const Resident& r) const {
    RunningModel m;
    const auto& info = r.model->engine().plan().info();
    const auto status = r.model->engine().status();
    m.name = r.name;
    m.digest = r.model->open().stored.digest;
    m.details = r.model->open().stored.details;
    m.size = r.model->memory_bytes();
    const int n_layers = r.model->engine().plan().spec().n_layers;
    m.processor = processor_of(info, n_layers);
    m.size_vram = m.size * uint64_t(info.gpu_layers) / uint64_t(std::max(1, n_layers));
    m.context_length = r.model->default_context();
    m.running = status.running;
    m.waiting = status.waiting;
    if (r.keep_alive >= 0) {
      const double left =
          r.users > 0 ? r.keep_alive : std::max(0.0, r.idle_since + r.keep_alive - os::monotonic_seconds());
      m.expires_at = int64_t(std::time(nullptr)) + int64_t(left + 0.5);
    }
    m.numerics_id = info.numerics_id;
    m.precision = backend::to_string(info.precision);
    m.kv_format = backend::to_string(info.kv_format);
    m.isa = info.isa;
    return m;
  }

  void control_loop() {
    std::unique_lock lock(mutex_);
    while (!quit_) {
      cancel_flagged();
      unload_expired(lock);
      Job job;
      if (take_job(job)) {
        lock.unlock();
        serve(job);
        lock.lock();
        continue;
      }
      if (work_ahead(lock)) continue;
      const bool watch = !active_.empty() || !queue_.empty() || !residents_.empty();
      if (watch) {
        wake_.wait_for(lock, kTick);
      } else {
        wake_.wait(lock, [&] { return quit_ || !queue_.empty(); });
      }
    }
    for (const auto& a : active_) a.resident->model->engine().cancel(a.id);
  }

  void cancel_flagged() {
    for (const auto& a : active_)
      if (a.cancel && *a.cancel) a.resident->model->engine().cancel(a.id);
  }

  // Takes idle models out that outstayed their time. Their engines are joined without the lock.
  void unload_expired(std::unique_lock<std::mutex>& lock) {
    std::list<Resident> gone;
    const double now = os::monotonic_seconds();
    for (auto it = residents_.begin(); it != residents_.end();) {
      const auto next = std::next(it);
      if (it->users == 0 && it->keep_alive >= 0 && now >= it->idle_since + it->keep_alive)
        gone.splice(gone.end(), residents_, it);
      it = next;
    }
    if (gone.empty()) return;
    lock.unlock();
    gone.clear();
    lock.lock();
  }

  // The first waiting request that can run now: its model is here, or there is room to load it.
  bool take_job(Job& job) {
    for (auto it = queue_.begin(); it != queue_.end(); ++it) {
      const bool cancelled = it->cancel && *it->cancel;
      if (!cancelled && !find_resident(it->request) && int(residents_.size()) >= options_.max_loaded_models &&
          !idle_resident())
        continue;
      job = std::move(*it);
      queue_.erase(it);
      return true;
    }
    return false;
  }

  static std::string key_of(const std::string& model) {
    auto name = store::Name::parse(model);
    return name.ok() ? name->display() : model;
  }

  Resident* find_resident(const ChatRequest& request) {
    const std::string key = key_of(request.model);
    for (auto& r : residents_)
      if (r.name == key &&
          (!request.options.num_thread || *request.options.num_thread == 0 || *request.options.num_thread == r.threads))
        return &r;
    return nullptr;
  }

  Resident* idle_resident() {
    Resident* oldest = nullptr;
    for (auto& r : residents_)
      if (r.users == 0 && (oldest == nullptr || r.idle_since < oldest->idle_since)) oldest = &r;
    return oldest;
  }

  // Makes room by unloading the model that has been idle longest; false when none is idle.
  bool evict_one() {
    std::list<Resident> gone;
    std::lock_guard lock(mutex_);
    Resident* idle = idle_resident();
    if (idle == nullptr) return false;
    const auto it = std::find_if(residents_.begin(), residents_.end(), [&](const Resident& r) { return &r == idle; });
    gone.splice(gone.end(), residents_, it);
    return true;  // an idle engine joins at once
  }

  Result<Resident*> acquire(Job& job, double* load_seconds) {
    {
      std::lock_guard lock(mutex_);
      if (Resident* r = find_resident(job.request)) {
        r->users++;
        return r;
      }
    }
    PONDER_TRY(auto open, open_model(store_, job.request.model, options_.allow_paths));
    RuntimeOptions options = options_;
    if (job.request.options.num_thread.value_or(0) > 0) options.threads = *job.request.options.num_thread;
    while (int(residents_.size()) >= options_.max_loaded_models && evict_one()) {
    }
    const double start = os::monotonic_seconds();
    for (;;) {
      const int wanted = job.request.options.num_ctx.value_or(0);
      auto model = LoadedModel::load(
          open, options, wanted, job.sink.on_load ? job.sink.on_load : std::function<void(double)>(), job.cancel.get());
      if (!model.ok()) {
        if (model.error().code == ErrorCode::out_of_memory && evict_one()) continue;
        return model.error();
      }
      *load_seconds = os::monotonic_seconds() - start;
      std::lock_guard lock(mutex_);
      Resident& r = residents_.emplace_back();
      r.model = std::move(*model);
      r.name = key_of(job.request.model);
      r.threads = options.threads;
      r.keep_alive = options_.keep_alive_seconds;
      r.users = 1;
      return &r;
    }
  }

  void release(Resident* r) {
    std::lock_guard lock(mutex_);
    r->users--;
    r->idle_since = os::monotonic_seconds();
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
    auto resident = acquire(job, &load_seconds);
    if (!resident.ok()) return fail(job, std::move(resident).error());
    Resident* r = *resident;
    if (job.request.keep_alive) {
      std::lock_guard lock(mutex_);
      r->keep_alive = *job.request.keep_alive;
    }
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
      if (recording && !finished.error && !stopping_)
        result->receipt_json =
            to_json(make_receipt(*r->model, request.model, plain, *recording, finished.reason)).dump();
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
    return {};
  }

  store::Store& store_;
  const RuntimeOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  Desk desk_;                      // before what holds its tickets
  std::list<Resident> residents_;  // stable addresses: callbacks point at them
  std::vector<Active> active_;
  bool quit_ = false;
  std::atomic<bool> stopping_{false};
  std::thread control_;  // last: starts when everything above is there
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
