// The callbacks of all chains meet in one Voting. They come on the engine's thread, while start_vote() may still be
// submitting on another, hence the mutex. Nothing of the outside is called under it but the engine's cancel().
#include "runtime/voting.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/os/system.h"

namespace ponder::runtime {
namespace {

using reason::ChainReport;

class Voting {
 public:
  Voting(engine::Engine& engine, const reason::VoteOptions& options, const ChatSink& sink, ChatResult result,
         double submitted, std::function<void(Result<ChatResult>)> done, std::shared_ptr<VoteTape> tape)
      : engine_(engine),
        options_(options),
        vote_(options),
        sink_(sink),
        result_(std::move(result)),
        submitted_(submitted),
        done_(std::move(done)),
        tape_(std::move(tape)),
        members_(size_t(options.n)) {}

  static Result<std::vector<engine::SequenceId>> start(std::shared_ptr<Voting> self, const Turn& turn) {
    engine::SequenceRequest request = turn.sequence;
    request.index_reply = false;  // no later prompt continues a losing chain
    std::vector<engine::Branch> branches;
    self->prompt_ = request.prompt;
    if (self->tape_) {
      self->tape_->done_reasons.resize(size_t(self->options_.n));
      for (int i = 0; i < self->options_.n; ++i) self->tape_->chains.push_back(std::make_shared<engine::Recording>());
      request.recording = self->tape_->chains[0];
    }
    std::unique_lock lock(self->mutex_);
    for (int i = 0; i < self->options_.n; ++i) {
      Member& m = self->members_[size_t(i)];
      m.report.index = i;
      m.chain = make_chain(turn, [self, i](ChatDelta delta) { self->heard(i, std::move(delta)); }, uint32_t(i));
      engine::Sink sink;
      sink.on_token = [self, i](const engine::TokenEvent&) { self->token(i); };
      sink.on_finish = [self, i](const engine::Finished& finished) { self->finished(i, finished); };
      if (i == 0) {
        sink.on_prefill = [self](const engine::PrefillProgress& p) {
          if (self->sink_.on_prefill) self->sink_.on_prefill(p.done, p.total);
        };
        request.controllers = m.chain.controllers;
        request.sink = std::move(sink);
      } else {
        auto recording = self->tape_ ? self->tape_->chains[size_t(i)] : nullptr;
        branches.push_back({uint32_t(i), m.chain.controllers, std::move(recording), std::move(sink)});
      }
    }
    auto ids = self->engine_.submit_all(std::move(request), std::move(branches));
    if (!ids.ok()) {  // no callback will come that lets go of the chains, which hold this object and the request's id
      for (Member& m : self->members_) m.chain = {};
      return ids;
    }
    for (size_t i = 0; i < ids->size(); ++i) self->members_[i].id = (*ids)[i];
    return ids;
  }

 private:
  struct Member {
    Chain chain;
    engine::SequenceId id = 0;
    ChainReport report;
    ChatDelta text;
    engine::Stats stats;
    std::optional<Error> error;
    bool gone = false;
  };

  void heard(int i, ChatDelta delta) {
    std::lock_guard lock(mutex_);
    members_[size_t(i)].text.append(std::move(delta));
  }

  void token(int i) {
    Told told;
    {
      std::lock_guard lock(mutex_);
      Member& m = members_[size_t(i)];
      const double now = os::monotonic_seconds();
      if (first_token_ < 0) first_token_ = now;
      using State = ChainReport::State;
      const State before = std::exchange(m.report.state, m.text.content.empty() ? State::thinking : State::answering);
      if (!vote_.decided()) {
        vote_.token(i);
        if (vote_.decided()) conclude(told);
      }
      const bool changed = before != m.report.state;
      if (!told.progress && (changed || now - last_progress_ >= kVoteProgressSeconds)) progress(told, now);
    }
    tell(std::move(told));
  }

  void finished(int i, const engine::Finished& finished) {
    Told told;
    {
      std::lock_guard lock(mutex_);
      Member& m = members_[size_t(i)];
      m.gone = true;
      m.stats = finished.stats;
      m.error = finished.error;
      m.report.done_reason = finished.reason;
      if (tape_) tape_->done_reasons[size_t(i)] = finished.reason;
      using State = ChainReport::State;
      if (finished.error) {
        m.report.state = State::failed;
        if (!vote_.decided()) vote_.ended(i, {}, /*failed=*/true);
      } else if (finished.reason == engine::finish::kCancelled) {
        m.report.state = State::cancelled;
      } else {
        m.report.state = State::finished;
        const bool whole = finished.reason == engine::finish::kStop;
        m.report.answer = reason::find_answer(m.text.content, options_.kind, whole);
        vote_.ended(i, m.report.answer);
      }
      if (vote_.decided() && !concluded_) conclude(told);
      if (!concluded_ && m.report.state != State::cancelled) progress(told, os::monotonic_seconds());
      if (std::all_of(members_.begin(), members_.end(), [](const Member& x) { return x.gone; })) finish_all(told);
    }
    tell(std::move(told));
  }

  // What is called without the lock, in this order.
  struct Told {
    std::optional<reason::VoteReport> progress;
    std::vector<ChatDelta> text;
    std::optional<Result<ChatResult>> done;
  };

  void tell(Told told) {
    if (told.progress && sink_.on_vote) sink_.on_vote(std::move(*told.progress));
    for (ChatDelta& delta : told.text)
      if (sink_.on_delta) sink_.on_delta(std::move(delta));
    if (told.done) done_(std::move(*told.done));
  }

  void progress(Told& told, double now) {
    last_progress_ = now;
    if (sink_.on_vote) told.progress = report(false);
  }

  // The decision: whoever still runs is not needed, and the winner speaks.
  void conclude(Told& told) {
    concluded_ = true;
    decided_at_ = os::monotonic_seconds();
    saved_ = vote_.tokens_saved();
    for (int i = 0; i < options_.n; ++i)
      if (!vote_.has_ended(i)) engine_.cancel(members_[size_t(i)].id);
    progress(told, decided_at_);
    if (vote_.winner() >= 0) speak(told, vote_.winner());
  }

  void speak(Told& told, int winner) {
    ChatDelta text = members_[size_t(winner)].text;
    if (!text.thinking.empty() && !text.content.empty()) {  // clients see a thought end before an answer begins
      ChatDelta thought;
      thought.thinking = std::exchange(text.thinking, {});
      told.text.push_back(std::move(thought));
    }
    if (!text.thinking.empty() || !text.content.empty() || !text.logprobs.empty()) told.text.push_back(std::move(text));
  }

  void finish_all(Told& told) {
    int winner = vote_.winner();
    const bool cancelled = !concluded_;
    if (cancelled) {  // by the caller: who leads speaks, if anyone does
      decided_at_ = os::monotonic_seconds();
      if (!vote_.groups().empty()) winner = vote_.groups()[0].chains[0];
      if (winner >= 0) speak(told, winner);
    }
    if (winner < 0 && !cancelled) {  // every chain failed
      told.done = members_[0].error.value_or(Error{ErrorCode::internal, "every chain of the vote failed"});
      for (Member& m : members_) m.chain = {};
      return;
    }
    ChatResult& r = result_;
    r.done_reason = cancelled ? engine::finish::kCancelled : members_[size_t(winner)].report.done_reason;
    r.total_seconds = os::monotonic_seconds() - submitted_;
    r.cached_tokens = members_[0].stats.cached_tokens;
    r.prompt_seconds = members_[0].stats.prefill_seconds;
    if (first_token_ >= 0) {
      r.first_token_seconds = first_token_ - submitted_;
      r.decode_seconds = decided_at_ - first_token_;
    }
    for (const Member& m : members_) {
      r.output_tokens += m.stats.output_tokens;
      r.drafted_tokens += m.stats.draft_tokens;
      r.accepted_tokens += m.stats.accepted_tokens;
    }
    r.context = prompt_;
    if (winner >= 0) {
      const Chain& chain = members_[size_t(winner)].chain;
      chain.describe(r);
      r.context.insert(r.context.end(), chain.reply->tokens().begin(), chain.reply->tokens().end());
    }
    r.vote = report(true);
    r.vote->winner = winner;
    r.vote->tokens_saved = saved_;
    if (!cancelled && vote_.groups().empty() && options_.n > 1)
      r.warnings.push_back(
          "no chain ended with an answer that can be compared, so there was nothing to vote on; this is chain " +
          std::to_string(winner));
    for (Member& m : members_) m.chain = {};  // their callbacks hold this object
    told.done = std::move(r);
  }

  reason::VoteReport report(bool last) {
    reason::VoteReport r = vote_.report();
    r.tokens = 0;
    for (const reason::Ballot& b : vote_.ballots()) members_[size_t(b.chain)].report.counted = true;
    r.finished = r.cancelled = 0;
    for (int i = 0; i < options_.n; ++i) {
      Member& m = members_[size_t(i)];
      ChainReport c = m.report;
      c.tokens = std::max(vote_.tokens(i), m.stats.output_tokens);
      if (c.state != ChainReport::State::waiting) {
        c.thinking_tokens = m.chain.reply->thinking_tokens();
        c.answer_tokens = m.chain.reply->answer_tokens();
      }
      if (last) {
        c.thinking = m.text.thinking;
        c.content = m.text.content;
      }
      r.tokens += c.tokens;
      r.finished += c.state == ChainReport::State::finished || c.state == ChainReport::State::failed;
      r.cancelled += c.state == ChainReport::State::cancelled;
      if (!last || options_.chains) r.chains.push_back(std::move(c));
    }
    return r;
  }

  engine::Engine& engine_;  // outlives every sequence of its own
  const reason::VoteOptions options_;
  std::mutex mutex_;
  reason::Vote vote_;
  const ChatSink sink_;
  ChatResult result_;
  const double submitted_;
  const std::function<void(Result<ChatResult>)> done_;
  const std::shared_ptr<VoteTape> tape_;  // shared with the caller
  std::vector<engine::TokenId> prompt_;
  std::vector<Member> members_;
  bool concluded_ = false;
  double first_token_ = -1, decided_at_ = 0, last_progress_ = 0;
  int64_t saved_ = 0;
};

}  // namespace

Result<std::vector<engine::SequenceId>> start_vote(engine::Engine& engine, const Turn& turn,
                                                   const reason::VoteOptions& options, const ChatSink& sink,
                                                   ChatResult result, double submitted,
                                                   std::function<void(Result<ChatResult>)> done,
                                                   std::shared_ptr<VoteTape> tape) {
  const sample::Params& sampling = turn.sequence.sampling;
  if (options.n > 1 && (sampling.temperature <= 0 || sampling.top_k == 1))
    return Error{ErrorCode::invalid_argument,
                 "a vote of " + std::to_string(options.n) + " needs chains that differ, and at " +
                     (sampling.temperature <= 0 ? "temperature 0" : "top_k 1") +
                     " all of them are the same; raise it (0.6 to 1.0 are usual for a vote) or leave the vote out"};
  // Shared by the callbacks of its chains; the last of them takes it along.
  auto voting =
      std::make_shared<Voting>(engine, options, sink, std::move(result), submitted, std::move(done), std::move(tape));
  return Voting::start(voting, turn);
}

}  // namespace ponder::runtime
