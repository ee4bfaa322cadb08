// A recording is read from left to right. Between two tokens stand the actions that were carried out there; they are
// handed to the engine as one decision, which it carries out in the order it was recorded in. Next to read: sequence.cpp,
// which writes recordings.
#include "engine/replay.h"

#include <algorithm>
#include <utility>

namespace ponder::engine {
namespace {
using Kind = Action::Kind;
constexpr float kOdds = 1;  // of a recorded token; the numerics id promises it
bool is_text(const Action& action) { return action.kind == Kind::drawn || action.kind == Kind::forced; }

// Endings that the engine finds by itself: the replay waits for it to do so.
bool engine_ends(const std::string& reason) {
  return reason == finish::kStop || reason == finish::kLength || reason == finish::kContext;
}
}  // namespace

Replay::Replay(Recording recording, std::string reason) : recording_(std::move(recording)), reason_(std::move(reason)) {
  std::erase_if(recording_.actions, [](const Action& a) { return is_text(a) && a.tokens.empty(); });
}

Result<void> Replay::check(const Recording& recording, int prompt_size, int vocab_size) {
  const auto bad = [](size_t i, const std::string& what) {
    return Error{ErrorCode::invalid_file, "action " + std::to_string(i) + " of the recording " + what};
  };
  int64_t size = prompt_size;
  const uint64_t nothing_allowed = mask_digest(std::vector<uint32_t>(1, 0), vocab_size);
  for (size_t i = 0; i < recording.actions.size(); ++i) {
    const Action& a = recording.actions[i];
    if (a.position != size)
      return bad(i, "stands at position " + std::to_string(a.position) + ", but the text has " + std::to_string(size) +
                        " tokens there");
    for (const TokenId token : a.tokens)
      if (token < 0 || token >= vocab_size)
        return bad(i, "holds token " + std::to_string(token) + ", which this vocabulary does not have");
    if (is_text(a)) size += int64_t(a.tokens.size());
    if (a.kind == Kind::rewind) {
      if (a.rewind_to < prompt_size || a.rewind_to > size)
        return bad(i, "goes back to position " + std::to_string(a.rewind_to));
      size = a.rewind_to;
    }
    if (a.kind == Kind::params) {
      if (!a.params) return bad(i, "changes the sampling parameters to nothing");
      PONDER_CHECK_OK(sample::validate(*a.params));
    }
    if (a.kind == Kind::mask) {
      if (a.mask_digest != 0 && a.mask.empty() && a.mask_digest != nothing_allowed)
        return Error{ErrorCode::unsupported, "action " + std::to_string(i) +
                                                 " of the recording is a mask that was too large to keep: this reply "
                                                 "cannot be replayed"};
      if (a.mask.size() % 2 != 0) return bad(i, "is half a mask");
      // As mask_runs() writes them. Anything else may cost much time and says nothing more.
      if (a.mask.size() / 2 > Action::kMaxRuns) return bad(i, "is a mask of more runs than a recording keeps");
      int64_t end = 0;
      for (size_t k = 0; k < a.mask.size(); k += 2) {
        if (a.mask[k] < end || a.mask[k + 1] <= 0) return bad(i, "is a mask whose runs are not ascending and disjoint");
        end = int64_t(a.mask[k]) + a.mask[k + 1];
        if (end > vocab_size) return bad(i, "allows tokens that this vocabulary does not have");
      }
      if (mask_digest(mask_words(a.mask), vocab_size) != a.mask_digest && a.mask_digest != 0)
        return bad(i, "is a mask whose digest differs");
    }
  }
  return {};
}

Decision Replay::on_start(std::span<const TokenId> prompt) {
  position_ = int32_t(prompt.size());
  return next();
}

Decision Replay::on_token(const TokenEvent& event) {
  if (difference_) return {};
  const Action* a = at_end() ? nullptr : &recording_.actions[at_];
  if (a == nullptr || a->tokens[offset_] != event.token) {
    difference_ = Difference{seen_, event.position, a == nullptr ? -1 : a->tokens[offset_], event.token};
    Decision d;
    d.finish = "differs";
    return d;
  }
  ++seen_;
  position_ = event.position + 1;
  if (++offset_ < a->tokens.size()) return {};
  ++at_;
  offset_ = 0;
  return next();
}

// All that was carried out before the next token, and that token's forced run if it is one.
Decision Replay::next() {
  Decision d;
  const Action* mask = nullptr;  // the last one stands; there may be many
  for (; !at_end() && !is_text(recording_.actions[at_]); ++at_) {
    const Action& a = recording_.actions[at_];
    switch (a.kind) {
      case Kind::drawn:
      case Kind::forced:
        break;
      case Kind::rewind:
        d.rewind_to = std::min(a.rewind_to, d.rewind_to.value_or(a.rewind_to));
        break;
      case Kind::params:
        d.params = a.params;
        break;
      case Kind::stream:
        d.stream = a.stream;
        break;
      case Kind::mask:
        mask = &a;
        break;
      case Kind::finish:
        d.finish = a.text;
        break;
    }
  }
  if (mask != nullptr) mask_ = mask->mask_digest == 0 ? std::vector<uint32_t>() : mask_words(mask->mask);
  if (at_end()) {
    if (!d.finish && !engine_ends(reason_)) d.finish = reason_;
  } else if (const Action& a = recording_.actions[at_]; a.kind == Kind::forced) {
    d.force.assign(a.tokens.begin(), a.tokens.end());
  }
  return d;
}

int Replay::propose(std::span<const TokenId>, std::span<Draft> draft) {
  size_t n = 0, offset = offset_;
  for (size_t at = at_; at < recording_.actions.size() && n < draft.size(); ++at, offset = 0) {
    const Action& a = recording_.actions[at];
    if (!is_text(a)) break;  // what comes after it is drawn otherwise
    while (offset < a.tokens.size() && n < draft.size()) draft[n++] = {a.tokens[offset++], kOdds};
  }
  return int(n);
}

std::optional<Replay::Difference> Replay::difference(const std::string& reason) const {
  if (difference_) return difference_;
  if (!at_end()) {
    const Action& a = recording_.actions[at_];
    return Difference{seen_, position_, is_text(a) ? a.tokens[offset_] : -1, -1};
  }
  if (reason != reason_) return Difference{seen_, position_, -1, -1};
  return std::nullopt;
}

}  // namespace ponder::engine
