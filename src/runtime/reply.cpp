#include "runtime/reply.h"

#include <utility>

#include "base/utf8.h"

namespace ponder::runtime {

Reply::Reply(Setup setup)
    : setup_(std::move(setup)),
      splitter_(setup_.tokenizer, setup_.tags, setup_.starts_inside),
      matcher_(setup_.stops) {}

engine::Decision Reply::on_token(const engine::TokenEvent& event) {
  if (event.end) return {};
  tokens_.push_back(event.token);
  if (setup_.logprobs) pending_.logprobs.push_back(describe(event));
  take(splitter_.push(event.token));
  hand_on();
  engine::Decision decision;
  if (matcher_.hit()) decision.finish = engine::finish::kStop;
  return decision;
}

void Reply::on_finish(const std::string&) {
  if (std::exchange(finished_, true)) return;
  take(splitter_.finish());
  if (!matcher_.hit()) pending_.content += matcher_.finish();
  hand_on();
}

void Reply::take(std::vector<chat::SplitPiece> pieces) {
  for (auto& piece : pieces) {
    if (piece.channel == chat::Channel::thinking) {
      pending_.thinking += piece.text;
    } else {
      pending_.content += matcher_.push(piece.text);
    }
  }
}

// Log-probabilities wait for the text they belong to: a token may end inside a character or be held back.
void Reply::hand_on() {
  const bool last = finished_ && !pending_.logprobs.empty();
  if (pending_.thinking.empty() && pending_.content.empty() && !last) return;
  if (setup_.deliver) setup_.deliver(std::exchange(pending_, {}));
  pending_ = {};
}

TokenLogprob Reply::describe(const engine::TokenEvent& event) const {
  const auto text = [&](tokenizer::TokenId id) { return std::string(setup_.tokenizer->piece(id, true)); };
  TokenLogprob entry{text(event.token), event.sampled.logprob, {}};
  for (const auto& t : event.sampled.top) entry.top.push_back({text(t.token), t.logprob});
  return entry;
}

}  // namespace ponder::runtime
