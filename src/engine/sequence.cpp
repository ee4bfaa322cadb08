// The rules of a sequence. A token joins in this order: appended; controllers asked; sink told; decisions carried out
// (finish, params, stream, rewind, force); then end token, max_new_tokens and context are looked at. Forced tokens join
// the same way, one after the other, until none waits. Drafted rows are taken in order while everything that joined is
// what was drafted and nothing changed that they were drawn with. Next to read: loop.cpp.
#include "engine/sequence.h"

#include <algorithm>
#include <utility>

namespace ponder::engine {
namespace {
// Forced tokens that join in one turn: a controller that forces for ever must not hold up the others.
constexpr int kForcedPerTurn = 1024;
// What became of the last so many drafts (about) corrects the odds of the next; a drafter's own odds count as so many.
constexpr double kDraftMemory = 64, kDraftPrior = 3;
constexpr double kMostOdds = 0.999;
// What drafts may cost a sequence if none is ever right: so much of its time. (29 of 1,000: times are sums of roundings.)
// Of what earlier ones saved, so many steps may be lost again.
constexpr double kDraftLoss = 0.029, kDraftStake = 8;
}  // namespace

Sequence::Sequence(SequenceId id, SequenceRequest request, int limit, int vocab_size, double now)
    : id_(id),
      request_(std::move(request)),
      prompt_size_(int(request_.prompt.size())),
      limit_(limit),
      vocab_size_(vocab_size),
      tokens_(std::move(request_.prompt)),
      submitted_(now) {
  stats_.prompt_tokens = prompt_size_;
}

std::unique_ptr<Sequence> Sequence::fork(SequenceId id, uint32_t stream,
                                         std::vector<std::shared_ptr<Controller>> controllers,
                                         std::shared_ptr<Recording> recording, Sink sink, double now) const {
  SequenceRequest request = request_;
  request.prompt = tokens_;
  request.prompt.insert(request.prompt.end(), forced_.begin(), forced_.end());
  request.stream = stream;
  request.controllers = std::move(controllers);
  request.sink = std::move(sink);
  request.drafter = request_.drafter ? request_.drafter->fork() : nullptr;
  request.recording = std::move(recording);
  if (request.max_new_tokens >= 0)
    request.max_new_tokens = std::max(0, request.max_new_tokens - (int(request.prompt.size()) - prompt_size_));
  return std::make_unique<Sequence>(id, std::move(request), limit_, vocab_size_, now);
}

void Sequence::start() {
  started_ = true;
  // A copy: forcing appends to tokens_ only later, but a controller may keep looking at its span during the call.
  const std::vector<TokenId> prompt = tokens_;
  if (int(tokens_.size()) >= limit_) end(finish::kContext);
  if (request_.max_new_tokens == 0) end(finish::kLength);
  if (!ended()) consult([&](Controller& c) { return c.on_start(prompt); });
  drain_forced();
}

void Sequence::poll() {
  if (!started_ || ended()) return;
  consult([](Controller& c) { return c.on_step(); });
  drain_forced();
}

template <class Ask>
void Sequence::consult(Ask ask) {
  Decision joint;
  for (const auto& controller : request_.controllers) {
    Decision d = ask(*controller);
    if (d.finish && !joint.finish) joint.finish = std::move(d.finish);
    if (joint.why.empty()) joint.why = std::move(d.why);
    if (d.params) joint.params = std::move(d.params);
    if (d.stream) joint.stream = d.stream;
    if (d.rewind_to) joint.rewind_to = std::min(d.rewind_to.value(), joint.rewind_to.value_or(*d.rewind_to));
    joint.force.insert(joint.force.end(), d.force.begin(), d.force.end());
  }
  if (joint.finish) {
    if (Action* a = record(Action::Kind::finish)) a->text = *joint.finish;
    return end(std::move(*joint.finish));
  }
  if (joint.params) {
    auto valid = sample::validate(*joint.params);
    if (!valid.ok()) return end(finish::kError, valid.error().with_context("a controller's sampling parameters"));
    request_.sampling = std::move(*joint.params);
    ++changes_;
    if (Action* a = record(Action::Kind::params)) a->params = request_.sampling, a->text = joint.why;
  }
  if (joint.stream) {
    request_.stream = *joint.stream;
    ++changes_;
    if (Action* a = record(Action::Kind::stream)) a->stream = request_.stream, a->text = joint.why;
  }
  if (joint.rewind_to) {
    if (Action* a = record(Action::Kind::rewind)) {
      a->rewind_to = std::clamp(*joint.rewind_to, prompt_size_, int(tokens_.size()));
      a->text = joint.why;
    }
    rewind(*joint.rewind_to);
  }
  if (!joint.force.empty()) force_why_ = std::move(joint.why);
  for (TokenId token : joint.force) {
    if (token < 0 || token >= vocab_size_)
      return end(finish::kError, Error{ErrorCode::internal, "a controller forced token " + std::to_string(token) +
                                                                ", which this vocabulary does not have"});
    forced_.push_back(token);
  }
}

void Sequence::rewind(int position) {
  ++changes_;
  position = std::max(position, prompt_size_);
  forced_.clear();
  if (position >= int(tokens_.size())) return;
  tokens_.resize(size_t(position));
  // The token before the next draw is computed again: its logits are needed.
  if (state && state->length() > position - 1) state->trim(position - 1);
  indexed_pages = std::min(indexed_pages, (position - 1) / backend::kv::kPageTokens);
}

void Sequence::drain_forced() {
  for (int i = 0; i < kForcedPerTurn && !forced_.empty() && !ended(); ++i) {
    const TokenId token = forced_.front();
    forced_.pop_front();
    sample::Sampled as_drawn;
    as_drawn.token = token;
    join(token, true, as_drawn);
  }
}

void Sequence::join(TokenId token, bool forced, const sample::Sampled& sampled) {
  TokenEvent event;
  event.token = token;
  event.position = int32_t(tokens_.size());
  event.forced = forced;
  event.end = std::find(request_.end_tokens.begin(), request_.end_tokens.end(), token) != request_.end_tokens.end();
  event.sampled = sampled;
  if (request_.recording) {
    auto& actions = request_.recording->actions;
    const auto kind = forced ? Action::Kind::forced : Action::Kind::drawn;
    if (actions.empty() || actions.back().kind != kind || (forced && actions.back().text != force_why_))
      record(kind)->text = forced ? force_why_ : "";
    actions.back().tokens.push_back(token);
  }
  tokens_.push_back(token);
  ++stats_.output_tokens;

  // The sink hears of the token before its consequences (forced tokens, the end), which consult() only notes down.
  consult([&](Controller& c) { return c.on_token(event); });
  if (request_.sink.on_token) request_.sink.on_token(event);

  const bool still_here = int(tokens_.size()) > event.position;
  if (ended() || !still_here) return;
  if (event.end) return end(finish::kStop);
  if (request_.max_new_tokens >= 0 && int(tokens_.size()) - prompt_size_ >= request_.max_new_tokens)
    return end(finish::kLength);
  if (int(tokens_.size()) >= limit_) end(finish::kContext);
}

Action* Sequence::record(Action::Kind kind) {
  if (!request_.recording) return nullptr;
  Action& action = request_.recording->actions.emplace_back();
  action.kind = kind;
  action.position = int32_t(tokens_.size());
  return &action;
}

bool Sequence::masked() const {
  return std::any_of(request_.controllers.begin(), request_.controllers.end(),
                     [](const auto& controller) { return !controller->mask().empty(); });
}

std::span<const float> Sequence::propose(int most) {
  odds_.clear();
  if (!request_.drafter || !generating() || !may_draw()) return {};
  const int size = int(tokens_.size());
  most = std::min(most, limit_ - size - 1);
  if (request_.max_new_tokens >= 0) most = std::min(most, request_.max_new_tokens - (size - prompt_size_) - 1);
  if (most <= 0 || masked()) return {};
  if (int(draft_.size()) < most) draft_.resize(size_t(most));
  const int n = std::clamp(request_.drafter->propose(tokens_, std::span(draft_).first(size_t(most))), 0, most);
  const double trust = (draft_hits_ + kDraftPrior) / (draft_expected_ + kDraftPrior);
  for (Draft& d : std::span(draft_).first(size_t(n))) {
    if (d.token < 0 || d.token >= vocab_size_) break;
    d.odds = d.odds > 0 ? std::min(d.odds, 1.f) : 0;  // whatever a drafter says
    odds_.push_back(float(std::min(double(d.odds) * trust, d.odds < 1 ? kMostOdds : 1.0)));
  }
  // What is proposed and never tried because it failed before gets another chance some day.
  draft_expected_ *= 1 - 0.1 / kDraftMemory;
  draft_hits_ *= 1 - 0.1 / kDraftMemory;
  return odds_;
}

void Sequence::take_drafts_back() {
  tokens_.resize(tokens_.size() - size_t(laid_));
  laid_ = 0;
}

std::span<const sample::Request> Sequence::prepare_draws(int drafts) {
  sample::Request draw;
  draw.params = &request_.sampling;
  draw.stream = request_.stream;
  draw.top_logprobs = request_.top_logprobs;
  int masks = 0;
  for (const auto& controller : request_.controllers) {
    const sample::MaskWords mask = controller->mask();
    if (mask.empty()) continue;
    if (++masks == 1) {
      draw.mask = mask;
      continue;
    }
    if (masks == 2) joint_mask_.assign(draw.mask.begin(), draw.mask.end());
    joint_mask_.resize(std::min(joint_mask_.size(), mask.size()));
    for (size_t i = 0; i < joint_mask_.size(); ++i) joint_mask_[i] &= mask[i];
    draw.mask = joint_mask_;
  }
  // A plan takes whole masks only; what a short one leaves out is forbidden.
  const size_t words = size_t(vocab_size_ + 31) / 32;
  if (masks > 0 && draw.mask.size() < words) {
    std::vector<uint32_t> whole(draw.mask.begin(), draw.mask.end());
    whole.resize(words, 0);
    joint_mask_ = std::move(whole);
    draw.mask = joint_mask_;
  }
  if (request_.recording) {
    const uint64_t digest = mask_digest(draw.mask, vocab_size_);
    if (digest != recorded_mask_) {
      Action* a = record(Action::Kind::mask);
      a->mask_digest = recorded_mask_ = digest;
      a->mask = mask_runs(draw.mask, vocab_size_);
    }
  }
  laid_ = std::min(drafts, int(odds_.size()));
  const size_t size = tokens_.size();
  for (const Draft& d : std::span(draft_).first(size_t(laid_))) tokens_.push_back(d.token);
  draws_.assign(size_t(laid_) + 1, draw);
  for (size_t i = 0; i < draws_.size(); ++i) {
    draws_[i].history = std::span(tokens_).first(size + i);
    draws_[i].position = uint32_t(size + i);
  }
  return draws_;
}

int Sequence::drawn(std::span<const backend::RowResult> rows, double now) {
  const size_t base = tokens_.size(), drafts = rows.size() - 1;
  bool missed = false;
  for (size_t next = 0;;) {
    const uint64_t before = changes_;
    draw_one(rows[next].sampled, now);
    if (ended() || changes_ != before) break;
    // Forced tokens may have joined too: they are as good as drawn ones if they were drafted.
    const size_t joined = tokens_.size() - base;
    if (joined > drafts) break;
    missed = !std::equal(tokens_.begin() + long(base + next), tokens_.end(), draft_.begin() + long(next),
                         [](TokenId token, const Draft& d) { return token == d.token; });
    if (missed || !may_draw() || masked()) break;
    next = joined;
  }
  if (drafts == 0) return 0;
  size_t right = 0;
  while (right < drafts && base + right < tokens_.size() && tokens_[base + right] == draft_[right].token) ++right;
  // Rows of wrong drafts never were; the row of the last token is computed again with the next batch.
  state->trim(int(std::min(base + right, tokens_.size() - 1)));
  stats_.draft_tokens += int(drafts);
  stats_.accepted_tokens += int(right);
  const int checked = int(right) + missed;
  for (int i = 0; i < checked; ++i) {
    draft_expected_ = draft_expected_ * (1 - 1 / kDraftMemory) + double(draft_[size_t(i)].odds);
    draft_hits_ = draft_hits_ * (1 - 1 / kDraftMemory) + (i < int(right));
  }
  request_.drafter->verified(checked, int(right));
  return int(right);
}

void Sequence::account(const StepCost& part, int right) {
  draft_spare_ += kDraftLoss * part.plain - part.drafts + right * part.token;
  draft_spare_ = std::min(draft_spare_, kDraftStake * part.token);
}

void Sequence::draw_one(const sample::Sampled& sampled, double now) {
  if (sampled.token < 0) {
    return end(
        finish::kError,
        Error{ErrorCode::invalid_argument,
              "no token can follow at position " + std::to_string(tokens_.size()) +
                  ": every token is forbidden (format, grammar or logit_bias), or the model's output is not a number"});
  }
  if (first_token_ < 0) first_token_ = now;
  last_token_ = now;
  join(sampled.token, false, sampled);
  drain_forced();
}

void Sequence::first_row(double now) {
  if (first_row_ < 0) first_row_ = now;
}

void Sequence::prefilled(int computed) {
  if (request_.sink.on_prefill) request_.sink.on_prefill({std::min(computed, prompt_size_), prompt_size_});
}

void Sequence::end(std::string reason, std::optional<Error> error) {
  if (!ending_) ending_ = Ending{std::move(reason), std::move(error)};
}

void Sequence::finish() {
  state.reset();
  Finished finished;
  finished.reason = ending_->reason;
  finished.error = ending_->error;
  finished.stats = stats_;
  if (first_row_ >= 0) finished.stats.queue_seconds = first_row_ - submitted_;
  if (first_token_ >= 0) {
    finished.stats.prefill_seconds = first_token_ - first_row_;
    finished.stats.decode_seconds = last_token_ - first_token_;
  }
  for (const auto& controller : request_.controllers) controller->on_finish(finished.reason);
  if (request_.sink.on_finish) request_.sink.on_finish(finished);
}

}  // namespace ponder::engine
