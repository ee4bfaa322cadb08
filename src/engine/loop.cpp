// The loop: turn() is the engine on one screen. Everything below it runs on the engine's thread, without the lock when
// it calls out. Launch and collect are separate so that a device may run ahead; on the CPU, which computes on our own
// threads, the batch is collected at once, and every controller therefore sees a token before the next is drawn.
// Read next: sequence.cpp (what a token sets off), scheduler.cpp (who gets rows), residence.cpp (who gets pages).
#include "engine/loop.h"

#include <algorithm>
#include <utility>

#include "base/os/system.h"

namespace ponder::engine {

bool Loop::step() {
  const bool news = take_commands();
  drop_background();
  poll_controllers();
  admit();
  const std::vector<Share> shares = schedule();
  if (!shares.empty()) {
    const backend::Batch batch = assemble(shares);
    settle(shares, run(batch, shares));
  } else if (!background_.empty()) {
    work_ahead();
  }
  reap();
  publish();
  return news || !status().idle() || !background_.empty();  // callbacks may have submitted more
}

bool Loop::take_commands() {
  std::vector<Command> commands;
  {
    std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) {
    if (auto* sequence = std::get_if<std::unique_ptr<Sequence>>(&command)) {
      ((*sequence)->background() ? background_ : waiting_).push_back(std::move(*sequence));
    } else {
      carry_out(std::move(std::get<ForkCommand>(command)));
    }
  }
  bool any_cancelled;
  {
    std::lock_guard lock(mutex_);
    any_cancelled = !cancelled_.empty();
  }
  if (any_cancelled) {
    for (auto* list : {&running_, &waiting_, &background_})
      for (auto& s : *list)
        if (is_cancelled(s->id())) s->end(finish::kCancelled);
    reap();
  }
  return !commands.empty() || any_cancelled;
}

void Loop::carry_out(ForkCommand command) {
  const double now = options_.clock();
  const Sequence* source = find(command.source);
  std::unique_ptr<Sequence> copy;
  if (source == nullptr) {
    SequenceRequest nothing;
    nothing.controllers = std::move(command.controllers);
    nothing.sink = std::move(command.sink);
    copy = std::make_unique<Sequence>(command.id, std::move(nothing), 1, 1, now);
    copy->end(finish::kError, Error{ErrorCode::not_found, "sequence " + std::to_string(command.source) +
                                                              " had ended before it could be forked"});
  } else {
    copy = source->fork(command.id, command.stream, std::move(command.controllers), std::move(command.recording),
                        std::move(command.sink), now);
    if (source->state && source->pending() == 1) {
      copy->state = source->state->fork();
      copy->indexed_pages = source->indexed_pages;
      copy->state->trim(copy->prompt_size() - 1);
      copy->add_cached(copy->state->length());
    } else {
      copy->parent = source->id();  // its prompt is on the way: computed once for both
    }
  }
  waiting_.push_back(std::move(copy));
}

void Loop::poll_controllers() {
  for (auto* list : {&running_, &waiting_})
    for (auto& s : *list) s->poll();
  reap();
}

std::vector<Loop::Share> Loop::schedule() {
  ++turn_;
  std::vector<Work> work;
  for (const auto& s : running_)
    work.push_back({s->pending(), s->generating(), s->may_draw(), s->last_turn,
                    s->propose(options_.max_output_rows - 1), s->draft_spare()});
  std::vector<Share> shares;
  for (const Grant& grant : scheduler_.schedule(work))
    shares.push_back({running_[grant.index].get(), grant.rows, grant.draw, grant.drafts});
  // Room for every row, oldest first. Making it may take pages, and so the share, from a younger sequence.
  for (size_t i = 0; i < shares.size();) {
    Sequence* s = shares[i].sequence;
    if (make_place(*s, shares[i].rows, shares)) {
      s->last_turn = turn_;
      ++i;
    } else {
      std::erase_if(shares, [s](const Share& share) { return share.sequence == s; });
    }
  }
  // Drafts take only pages that nobody needs.
  for (Share& share : shares)
    if (share.drafts > 0 && !share.sequence->state->reserve(share.rows + share.drafts).ok()) share.drafts = 0;
  return shares;
}

backend::Batch Loop::assemble(const std::vector<Share>& shares) {
  backend::Batch batch;
  for (const Share& share : shares) {
    Sequence& s = *share.sequence;
    const int begin = s.state->length(), end = begin + share.rows + share.drafts;
    const auto draws = share.draw ? s.prepare_draws(share.drafts) : std::span<const sample::Request>();
    for (int i = begin; i < end; ++i) batch.rows.push_back({s.state.get(), s.tokens()[size_t(i)], i, nullptr, false});
    for (size_t i = 0; i < draws.size(); ++i) batch.rows[batch.rows.size() - draws.size() + i].sampling = &draws[i];
  }
  return batch;
}

Result<std::vector<backend::RowResult>> Loop::run(const backend::Batch& batch, const std::vector<Share>& shares) {
  {
    std::lock_guard lock(mutex_);
    in_flight_.clear();
    for (const Share& share : shares) in_flight_.push_back(share.sequence->id());
    background_in_flight_ = shares.front().sequence->background();
    stop_ = quit_ || (background_in_flight_ && !commands_.empty()) ||
            std::all_of(in_flight_.begin(), in_flight_.end(), [&](SequenceId id) { return cancelled_.count(id); });
  }
  const double begin = options_.clock();
  int decode_rows = 0, draft_rows = 0;
  for (const Share& share : shares) {
    share.sequence->first_row(begin);
    if (share.sequence->generating()) decode_rows += share.rows;
    draft_rows += share.drafts;
  }
  const int prefill_rows = int(batch.rows.size()) - decode_rows - draft_rows;

  auto launched = plan_->launch(batch, &stop_);
  Result<std::vector<backend::RowResult>> results =
      launched.ok() ? plan_->collect() : Result<std::vector<backend::RowResult>>(std::move(launched).error());
  if (results.ok()) {
    cost_ = scheduler_.measured(decode_rows, prefill_rows, options_.clock() - begin, draft_rows);
    ++counts_.steps;
    counts_.decode_tokens += uint64_t(decode_rows + draft_rows);
    counts_.prefill_tokens += uint64_t(prefill_rows);
  }
  std::lock_guard lock(mutex_);
  in_flight_.clear();
  background_in_flight_ = false;
  return results;
}

void Loop::settle(const std::vector<Share>& shares, const Result<std::vector<backend::RowResult>>& results) {
  for (const Share& share : shares) share.sequence->take_drafts_back();
  if (!results.ok()) {
    if (results.error().code == ErrorCode::cancelled && stop_) return;  // the next turn ends whom it concerns
    for (const Share& share : shares) share.sequence->end(finish::kError, results.error());
    return;
  }
  const double now = options_.clock();
  size_t row = 0;
  int drafts = 0, drawing = 0;
  for (const Share& share : shares) drafts += share.drafts, drawing += share.draw;
  for (const Share& share : shares) {
    Sequence& s = *share.sequence;
    const std::span<const backend::RowResult> own(results->data() + row, size_t(share.rows + share.drafts));
    row += own.size();
    if (is_cancelled(s.id())) {  // nothing is heard of it any more but its end
      s.state->trim(int(s.tokens().size()));
      continue;
    }
    if (!s.generating()) s.prefilled(s.state->length());
    if (share.draw) {
      const int right = s.drawn(own.last(size_t(share.drafts) + 1), now);
      const double own_drafts = drafts > 0 ? cost_.drafts * share.drafts / drafts : 0;
      s.account({cost_.plain / drawing, own_drafts, cost_.token / drawing}, right);
    }
    if (index_) index_pages(s);
  }
}

void Loop::reap() {
  std::vector<std::unique_ptr<Sequence>> ended;
  for (auto* list : {&running_, &waiting_, &background_}) {
    for (auto& s : *list)
      if (s->ended()) ended.push_back(std::move(s));
    std::erase(*list, nullptr);
  }
  if (ended.empty()) return;
  std::sort(ended.begin(), ended.end(), [](const auto& a, const auto& b) { return a->id() < b->id(); });
  {
    std::lock_guard lock(mutex_);
    for (const auto& s : ended) {
      live_.erase(s->id());
      cancelled_.erase(s->id());
    }
  }
  for (const auto& s : ended) s->state.reset();
  publish();
  for (const auto& s : ended) s->finish();
}

void Loop::publish() {
  std::lock_guard lock(mutex_);
  status_ = counts_;
  status_.running = int(running_.size());
  status_.waiting = int(waiting_.size());
  status_.background = int(background_.size());
  status_.pages_used = plan_->pages().used();
  status_.pages_total = plan_->pages().capacity();
}

bool Loop::is_cancelled(SequenceId id) const {
  std::lock_guard lock(mutex_);
  return cancelled_.count(id) > 0;
}

// ---- The door: any thread.

Loop::Loop(std::unique_ptr<backend::Plan> plan, const EngineOptions& options)
    : plan_(std::move(plan)),
      options_(options),
      scheduler_({options.max_batch_rows, options.max_output_rows, options.target_step_seconds}) {
  if (!options_.clock) options_.clock = os::monotonic_seconds;
  if (options_.prefix_cache) index_ = std::make_unique<backend::kv::PrefixIndex>(plan_->pages());
  publish();
}

Loop::~Loop() {
  {
    std::lock_guard lock(mutex_);
    quit_ = true;
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  finish_all();
}

void Loop::finish_all() {
  take_commands();
  for (auto* list : {&running_, &waiting_, &background_})
    for (auto& s : *list) s->end(finish::kCancelled);
  reap();
}

void Loop::start() {
  if (thread_.joinable()) return;
  thread_ = std::thread([this] {
    for (;;) {
      const bool busy = step();
      std::unique_lock lock(mutex_);
      if (!busy) wake_.wait(lock, [this] { return quit_ || !commands_.empty() || !cancelled_.empty(); });
      if (quit_) return;
    }
  });
}

Result<SequenceId> Loop::submit(SequenceRequest request) {
  PONDER_TRY(const auto ids, submit_all(std::move(request), {}));
  return ids[0];
}

Result<std::vector<SequenceId>> Loop::submit_all(SequenceRequest request, std::vector<Branch> branches) {
  const int vocab_size = plan_->spec().vocab_size;
  if (request.prompt.empty())
    return Error{ErrorCode::invalid_argument, "the prompt is empty: at least one token is needed"};
  for (size_t i = 0; i < request.prompt.size(); ++i)
    if (request.prompt[i] < 0 || request.prompt[i] >= vocab_size)
      return Error{ErrorCode::invalid_argument,
                   "token " + std::to_string(i) + " of the prompt is " + std::to_string(request.prompt[i]) +
                       ": token ids of this model go from 0 to " + std::to_string(vocab_size - 1)};
  PONDER_CHECK_OK(sample::validate(request.sampling));
  const int limit =
      request.context_length > 0 ? std::min(request.context_length, options_.context_length) : options_.context_length;
  if (request.prompt.size() >= size_t(limit))
    return Error{ErrorCode::out_of_range, "the prompt has " + std::to_string(request.prompt.size()) +
                                              " tokens, the context holds " + std::to_string(limit) +
                                              " with the answer: shorten the prompt or raise num_ctx"};
  const int64_t capacity = int64_t(status().pages_total) * backend::kv::kPageTokens;
  if (int64_t(request.prompt.size()) > capacity)
    return Error{ErrorCode::out_of_memory, "the prompt has " + std::to_string(request.prompt.size()) +
                                               " tokens, the KV cache holds " + std::to_string(capacity) +
                                               ": shorten the prompt or give the cache more memory"};
  const double now = options_.clock();
  std::lock_guard lock(mutex_);
  if (quit_) return Error{ErrorCode::cancelled, "the model is being unloaded"};
  // Taken by the loop together, so a copy always finds the request it is of.
  std::vector<SequenceId> ids = {next_id_++};
  commands_.emplace_back(std::make_unique<Sequence>(ids[0], std::move(request), limit, vocab_size, now));
  for (Branch& b : branches) {
    ids.push_back(next_id_++);
    commands_.emplace_back(
        ForkCommand{ids[0], ids.back(), b.stream, std::move(b.controllers), std::move(b.recording), std::move(b.sink)});
  }
  live_.insert(ids.begin(), ids.end());
  if (background_in_flight_) stop_ = true;  // what is wanted now comes first
  wake_.notify_all();
  return ids;
}

Result<SequenceId> Loop::fork(SequenceId source, uint32_t stream, std::vector<std::shared_ptr<Controller>> controllers,
                              Sink sink) {
  std::lock_guard lock(mutex_);
  if (quit_) return Error{ErrorCode::cancelled, "the model is being unloaded"};
  if (!live_.count(source))
    return Error{ErrorCode::not_found, "sequence " + std::to_string(source) + " does not run: it cannot be forked"};
  const SequenceId id = next_id_++;
  commands_.emplace_back(ForkCommand{source, id, stream, std::move(controllers), nullptr, std::move(sink)});
  live_.insert(id);
  wake_.notify_all();
  return id;
}

void Loop::cancel(SequenceId id) {
  std::lock_guard lock(mutex_);
  if (!live_.count(id)) return;
  cancelled_.insert(id);
  const bool all = std::all_of(in_flight_.begin(), in_flight_.end(), [&](SequenceId s) { return cancelled_.count(s); });
  if (!in_flight_.empty() && all) stop_ = true;
  wake_.notify_all();
}

EngineStatus Loop::status() const {
  std::lock_guard lock(mutex_);
  EngineStatus status = status_;
  status.waiting += int(commands_.size());
  return status;
}

Result<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<backend::Plan> plan, const EngineOptions& options) {
  auto bad = [](const char* option, int value) {
    return Error{ErrorCode::invalid_argument,
                 std::string(option) + " is " + std::to_string(value) + ": it must be at least 1"};
  };
  if (!plan) return Error{ErrorCode::invalid_argument, "an engine needs a plan"};
  if (options.context_length < 1) return bad("context_length", options.context_length);
  if (options.max_sequences < 1) return bad("max_sequences", options.max_sequences);
  if (options.max_batch_rows < 1) return bad("max_batch_rows", options.max_batch_rows);
  if (options.max_output_rows < 1) return bad("max_output_rows", options.max_output_rows);
  return std::unique_ptr<Engine>(std::make_unique<Loop>(std::move(plan), options));
}

}  // namespace ponder::engine
