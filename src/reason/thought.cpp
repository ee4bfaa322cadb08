// The glue of budget, loop detector and steering. Each on_token ends in one Decision; whatever is forced comes back as
// events, and while it does nothing else is decided. Read first: budget.h, loop.h, and the rules of a rewind in
// engine/engine.h.
#include "reason/thought.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "reason/language.h"

namespace ponder::reason {
namespace {

using engine::Decision;
using engine::TokenEvent;
using engine::TokenId;

constexpr int kMostAnswer = 1024;  // kept for the answer when nothing is said
constexpr double kMostBias = 8;    // on the closing tag at the end of the soft zone
constexpr int kBiasSteps = 4;      // parameters change in steps, so that a receipt stays short
constexpr int kWarmDraws = 64;
constexpr float kWarmest = 0.8f, kWarmer = 0.3f, kWarmPenalty = 1.2f;
constexpr int kWarmLookBack = 256;
constexpr float kForbidden = -100;
constexpr size_t kLanguageTail = 2000;  // bytes of the thought whose language counts
constexpr uint32_t kStreamShift = 16;   // chains of a vote have the streams below

double system_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

bool has_digit(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

BudgetOptions budget_of(const ThoughtSetup& s, int sentence, int tag) {
  BudgetOptions b;
  b.tokens = s.tokens;
  b.seconds = s.seconds;
  b.hard = s.hard;
  b.room = s.room;
  // A reply with little room gives up the sentence first, then the answer's share.
  b.closing = s.room / 4 >= sentence + tag ? sentence + tag : tag;
  const int wanted = s.answer >= 0 ? s.answer : std::min(kMostAnswer, s.room / 4);
  b.answer = std::clamp(wanted, 1, std::max(1, s.room - b.closing - 1));
  return b;
}

}  // namespace

Thought::Thought(ThoughtSetup setup)
    : setup_(std::move(setup)),
      splitter_(setup_.tokenizer, setup_.tags, setup_.starts_inside),
      budget_(BudgetOptions()),
      extends_(setup_.extend) {
  if (!setup_.clock) setup_.clock = system_seconds;
  if (!setup_.tags) return;
  size_t longest = setup_.closing ? encode("\n\n" + *setup_.closing + "\n").size() : 0;
  for (int l = 0; l <= int(Language::italian); ++l) {
    const Phrases& p = phrases(Language(l));
    if (!setup_.closing) longest = std::max(longest, encode("\n\n" + std::string(p.closing) + "\n").size());
    if (setup_.loop != LoopPolicy::off && setup_.loop != LoopPolicy::stop)
      longest = std::max(longest, encode("\n\n" + std::string(p.repeating) + "\n").size());
  }
  const size_t tag = setup_.tags->close.size() + encode("\n\n").size() + 1;
  const BudgetOptions options = budget_of(setup_, int(longest), int(tag));
  if (options.closing < int(longest + tag)) setup_.closing = "";
  budget_ = Budget(options);
}

double Thought::now() const { return setup_.clock(); }

uint32_t Thought::fresh_stream() { return (++streams_ << kStreamShift) | (setup_.stream & 0xFFFF); }

std::vector<TokenId> Thought::encode(const std::string& text) const {
  std::vector<TokenId> ids = setup_.tokenizer->encode(text, /*from_template=*/false);
  // A person's words must not open or close a thought, nor end the turn.
  std::erase_if(ids, [&](TokenId id) {
    const bool tag = setup_.tags && ((setup_.tags->close.size() == 1 && id == setup_.tags->close[0]) ||
                                     (setup_.tags->open.size() == 1 && id == setup_.tags->open[0]));
    return tag || setup_.tokenizer->is_end_of_generation(id);
  });
  return ids;
}

Decision Thought::on_start(std::span<const TokenId> prompt) {
  base_ = prompt.size();
  stage_ = !setup_.tags || setup_.off ? Stage::answering : setup_.starts_inside ? Stage::thinking : Stage::before;
  if (setup_.tags && setup_.off) done_reason_ = ended_by::kOff;
  if (setup_.steering)
    setup_.steering->enter(stage_ == Stage::thinking    ? Phase::thinking
                           : stage_ == Stage::answering ? Phase::answering
                                                        : Phase::waiting);
  Decision decision;
  add_params(decision);
  return decision;
}

void Thought::see(const Written& token) {
  const bool inside = splitter_.inside_thought();
  splitter_.push(token.id);
  written_.push_back(token);
  const bool still = splitter_.inside_thought();
  if (!still) return;
  if (!inside) return;  // the opening tag
  text_ += setup_.tokenizer->piece(token.id, true);
  own_ += !token.forced;
}

Decision Thought::on_token(const TokenEvent& event) {
  // Another controller may have taken tokens back.
  const size_t index = size_t(event.position) - base_;
  if (index < written_.size()) {
    Decision ignored;
    take_back_to(index, ignored);
  }
  if (event.forced && forcing_ > 0) --forcing_;
  if (!event.forced && warm_ > 0) --warm_;
  Decision decision;
  if (event.end) {
    // The model ends its turn without having ended its thought: it still owes an answer.
    if (stage_ == Stage::thinking && splitter_.inside_thought()) {
      decision = close(ended_by::kModel, "");
      if (!decision.rewind_to) decision.rewind_to = event.position;
    }
    return decision;
  }
  const bool was_inside = splitter_.inside_thought();
  see({event.token, event.forced});
  if (stage_ == Stage::before) {
    if (splitter_.inside_thought()) {
      stage_ = Stage::thinking;
      loop_begin_ = written_.size();
      if (setup_.steering) setup_.steering->enter(Phase::thinking);
    } else if (splitter_.answer_tokens() > 0) {
      stage_ = Stage::answering;
      if (setup_.steering) setup_.steering->enter(Phase::answering);
    }
  }
  switch (stage_) {
    case Stage::before:
      break;
    case Stage::thinking:
      decision = was_inside ? think(event) : obey(std::exchange(early_, {}));
      break;
    case Stage::answering:
      decision = answer(event);
      break;
  }
  add_params(decision);
  return decision;
}

Decision Thought::think(const TokenEvent& event) {
  if (!splitter_.inside_thought()) {  // the closing tag
    if (!closing_ && extends_ > 0 && budget_.state() < Budget::State::waiting) return go_on();
    if (done_reason_.empty()) done_reason_ = ended_by::kModel;
    stage_ = Stage::answering;
    if (setup_.steering) setup_.steering->enter(Phase::answering);
    loop_.reset();
    loop_begin_ = written_.size();
    warm_ = 0;
    must_answer_ = closing_;
    closing_ = false;
    return {};
  }
  std::optional<LoopDetector::Found> found;
  if (setup_.loop != LoopPolicy::off)
    found = loop_.push(event.token, has_digit(setup_.tokenizer->piece(event.token, true)));
  if (forcing_ > 0) return {};
  if (found) return break_loop(*found);
  return check_budget();
}

Decision Thought::answer(const TokenEvent& event) {
  if (forcing_ > 0) return {};
  if (must_answer_) {  // until something stands there that can be seen
    const std::string_view piece = setup_.tokenizer->piece(event.token, false);
    must_answer_ = piece.find_first_not_of(" \n\t\r") == std::string_view::npos;
  }
  if (setup_.loop == LoopPolicy::off) return {};
  const auto found = loop_.push(event.token, has_digit(setup_.tokenizer->piece(event.token, true)));
  return found ? break_loop(*found) : Decision{};
}

Decision Thought::on_step() {
  if (!setup_.steering && setup_.seconds < 0) return {};
  Decision decision;
  if (setup_.steering) {
    auto commands = setup_.steering->take();
    if (!commands.empty() && stage_ == Stage::before) {
      for (Command& c : commands) {
        if (c.action == Command::Action::stop) {
          decision.finish = engine::finish::kCancelled;
          return decision;
        }
        early_.push_back(std::move(c));
      }
      return {};
    }
    decision = obey(std::move(commands));
  }
  const bool decided = decision.finish || !decision.force.empty();
  if (!decided && stage_ == Stage::thinking && forcing_ == 0 && setup_.seconds >= 0) decision = check_budget();
  add_params(decision);
  return decision;
}

Decision Thought::obey(std::vector<Command> commands) {
  Decision decision;
  for (const Command& command : commands) {
    if (command.action == Command::Action::stop) {
      decision = {};
      decision.finish = engine::finish::kCancelled;
      return decision;
    }
    if (stage_ != Stage::thinking || closing_) continue;  // too late
    switch (command.action) {
      case Command::Action::answer: {
        const auto before = std::move(decision.force);
        decision.force.clear();
        Decision end = close(ended_by::kUser, closing_sentence());
        end.force.insert(end.force.begin(), before.begin(), before.end());
        if (decision.rewind_to) end.rewind_to = decision.rewind_to, end.stream = decision.stream;
        return end;
      }
      case Command::Action::more:
        budget_.extend(command.tokens);
        ++extends_;
        break;
      case Command::Action::note: {
        Decision note = write_note(command.text);
        if (note.rewind_to) decision.rewind_to = note.rewind_to, decision.stream = note.stream;
        decision.force.insert(decision.force.end(), note.force.begin(), note.force.end());
        break;
      }
      case Command::Action::stop:
        break;
    }
  }
  return decision;
}

Decision Thought::check_budget() {
  const Budget::State state = budget_.look(own_, int(written_.size()), now());
  const bool sentence_ends = ends_sentence(text_);
  bias_ = 0;
  if (state == Budget::State::over || (state == Budget::State::waiting && sentence_ends))
    return close(budget_.cause() == Budget::Cause::seconds ? ended_by::kTime : ended_by::kBudget, closing_sentence());
  if (state == Budget::State::soft && sentence_ends)
    bias_ = kMostBias * std::ceil(budget_.pressure() * kBiasSteps) / kBiasSteps;
  return {};
}

Decision Thought::break_loop(const LoopDetector::Found& found) {
  Decision decision;
  const size_t first_round = loop_begin_ + size_t(found.begin + found.period);
  if (stage_ == Stage::answering) {
    if (setup_.loop != LoopPolicy::ladder || answer_resampled_) {
      decision.finish = kFinishLoop;
      return decision;
    }
    answer_resampled_ = true;  // what was delivered stays: an answer is not taken back
    loop_.reset();
    loop_begin_ = written_.size();
    warm_ = kWarmDraws;
    decision.stream = fresh_stream();
    decision.why = "loop";
    return decision;
  }
  if (setup_.loop == LoopPolicy::stop) {
    done_reason_ = ended_by::kLoop;
    decision.finish = kFinishLoop;
    return decision;
  }
  take_back_to(first_round, decision);
  if (setup_.loop == LoopPolicy::ladder && !resampled_) {
    decision.why = "loop";
    resampled_ = true;
    warm_ = kWarmDraws;
    return decision;
  }
  Decision end = close(ended_by::kLoop, phrases(language_of(text_)).repeating);
  if (!end.rewind_to) end.rewind_to = decision.rewind_to, end.stream = decision.stream;
  return end;
}

// The thought's end. Decides everything that follows until the answer begins.
Decision Thought::close(const char* reason, const std::string& sentence) {
  Decision decision;
  take_back_broken_character(decision);
  decision.why = done_reason_ = reason;
  closing_ = true;
  bias_ = 0;
  warm_ = 0;
  if (sentence.empty() || setup_.closing == "") {
    force(text_.empty() || text_.ends_with('\n') ? "" : "\n", true, decision);
  } else {
    force(lead() + sentence + "\n", true, decision);
  }
  return decision;
}

Decision Thought::write_note(const std::string& text) {
  Decision decision;
  const Phrases& words = phrases(language_of(text_));
  const std::vector<TokenId> ids = encode(lead() + words.note + " " + text + "\n");
  // A note that leaves no room for closing and answer is not written.
  Budget probe = budget_;
  if (probe.look(0, int(written_.size() + ids.size()), 0) == Budget::State::over && setup_.tokens != 0) return decision;
  decision.why = "note";
  take_back_broken_character(decision);
  force(lead() + words.note + " " + text + "\n", false, decision);
  return decision;
}

Decision Thought::go_on() {
  --extends_;
  Decision decision;
  decision.why = "extend";
  // Back to before the tag, however the model cut it into tokens.
  size_t n = written_.size();
  for (std::string tail; n > 0 && tail.find(setup_.tags->close_text) == std::string::npos;)
    tail.insert(0, setup_.tokenizer->piece(written_[--n].id, true));
  take_back_to(n, decision);
  force((text_.empty() || text_.ends_with('\n') ? "" : "\n") + std::string(phrases(language_of(text_)).wait), false,
        decision);
  return decision;
}

// What has been written from index n on never was: engine and detector forget it too.
void Thought::take_back_to(size_t n, Decision& decision) {
  if (n >= written_.size()) return;
  const std::vector<Written> kept(written_.begin(), written_.begin() + std::ptrdiff_t(n));
  splitter_ = chat::ThinkingSplitter(setup_.tokenizer, setup_.tags, setup_.starts_inside);
  written_.clear();
  text_.clear();
  own_ = 0;
  for (const Written& token : kept) see(token);
  loop_.trim(int(n) - int(loop_begin_));
  forcing_ = 0;
  decision.rewind_to = int32_t(base_ + n);
  decision.stream = fresh_stream();
}

void Thought::take_back_broken_character(Decision& decision) {
  size_t broken = incomplete_tail(text_), n = written_.size();
  if (broken == 0) return;
  size_t bytes = 0;
  while (n > 0 && bytes < broken) bytes += setup_.tokenizer->piece(written_[--n].id, true).size();
  take_back_to(n, decision);
  if (incomplete_tail(text_) > 0 && !written_.empty()) take_back_broken_character(decision);
}

std::string Thought::lead() const {
  if (text_.empty() || text_.ends_with("\n\n")) return "";
  return text_.ends_with('\n') ? "\n" : "\n\n";
}

std::string Thought::closing_sentence() const {
  if (setup_.closing) return *setup_.closing;
  const size_t from = text_.size() > kLanguageTail ? text_.size() - kLanguageTail : 0;
  return phrases(language_of(std::string_view(text_).substr(from))).closing;
}

void Thought::force(const std::string& text, bool tag, Decision& decision) {
  std::vector<TokenId> ids = encode(text);
  if (tag) {
    ids.insert(ids.end(), setup_.tags->close.begin(), setup_.tags->close.end());
    const auto after = encode("\n\n");
    ids.insert(ids.end(), after.begin(), after.end());
  }
  decision.force.insert(decision.force.end(), ids.begin(), ids.end());
  forcing_ += ids.size();
}

// The parameters for the next draw, if they differ from what the engine draws with now.
void Thought::add_params(Decision& decision) {
  std::optional<sample::Params> wanted;
  const auto params = [&]() -> sample::Params& {
    if (!wanted) wanted = setup_.params;
    return *wanted;
  };
  const bool thinking = stage_ == Stage::thinking;
  if (thinking && bias_ > 0 && setup_.tags->close.size() == 1)
    params().logit_bias.emplace_back(setup_.tags->close[0], float(bias_));
  if (warm_ > 0) {
    sample::Params& p = params();
    p.temperature = std::max(kWarmest, setup_.params.temperature + kWarmer);
    p.repeat_penalty = std::max(kWarmPenalty, p.repeat_penalty);
    p.repeat_last_n = kWarmLookBack;
  }
  if (setup_.off && setup_.tags && setup_.tags->open.size() == 1 && written_.empty())
    params().logit_bias.emplace_back(setup_.tags->open[0], kForbidden);
  if (must_answer_ || closing_)
    for (const TokenId id : setup_.tokenizer->end_of_generation()) params().logit_bias.emplace_back(id, kForbidden);
  const auto same = [](const std::optional<sample::Params>& a, const std::optional<sample::Params>& b) {
    if (!a || !b) return a.has_value() == b.has_value();
    return a->temperature == b->temperature && a->repeat_penalty == b->repeat_penalty &&
           a->repeat_last_n == b->repeat_last_n && a->logit_bias == b->logit_bias;
  };
  if (same(wanted, given_)) return;
  decision.params = wanted ? *wanted : setup_.params;
  if (decision.why.empty()) decision.why = bias_ > 0 ? "soft" : warm_ > 0 ? "loop" : "plain";
  given_ = std::move(wanted);
}

void Thought::on_finish(const std::string&) {
  if (setup_.steering) setup_.steering->enter(Phase::done);
}

}  // namespace ponder::reason
