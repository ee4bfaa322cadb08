#include "runtime/reply.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/utf8.h"

namespace ponder::runtime {

void ChatDelta::append(ChatDelta next) {
  int off = next.thinking_retracted;
  while (off > 0 && !thinking.empty()) {
    off -= (uint8_t(thinking.back()) & 0xC0) != 0x80;
    thinking.pop_back();
  }
  thinking_retracted += off;  // of pieces before this one
  thinking += next.thinking;
  content += next.content;
  const size_t dropped = std::min(size_t(next.logprobs_retracted), logprobs.size());
  logprobs.resize(logprobs.size() - dropped);
  logprobs_retracted += next.logprobs_retracted - int(dropped);
  logprobs.insert(logprobs.end(), std::make_move_iterator(next.logprobs.begin()),
                  std::make_move_iterator(next.logprobs.end()));
}

Reply::Reply(Setup setup)
    : setup_(std::move(setup)),
      splitter_(setup_.tokenizer, setup_.tags, setup_.starts_inside, setup_.continues),
      matcher_(setup_.stops) {}

engine::Decision Reply::on_token(const engine::TokenEvent& event) {
  if (!base_) base_ = event.position;
  if (const size_t n = size_t(event.position - *base_); n < tokens_.size()) take_back_to(n);
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

// A controller took tokens of the thought back (answers are never taken back). What the reader has of them is retracted;
// what it does not have is dropped.
void Reply::take_back_to(size_t n) {
  if (setup_.logprobs) {  // there is one for each token, handed on or pending
    const size_t gone = tokens_.size() - n, held = std::min(gone, pending_.logprobs.size());
    pending_.logprobs.resize(pending_.logprobs.size() - held);
    pending_.logprobs_retracted += int(gone - held);
  }
  tokens_.resize(n);
  splitter_ = chat::ThinkingSplitter(setup_.tokenizer, setup_.tags, setup_.starts_inside, setup_.continues);
  std::string kept;
  for (const auto id : tokens_)
    for (const auto& piece : splitter_.push(id))
      if (piece.channel == chat::Channel::thinking) kept += piece.text;
  if (kept.size() >= thought_.size()) return;
  const std::string gone = thought_.substr(kept.size());
  thought_ = std::move(kept);
  const size_t held = std::min(gone.size(), pending_.thinking.size());
  pending_.thinking.resize(pending_.thinking.size() - held);
  const auto begins = [](char c) { return (uint8_t(c) & 0xC0) != 0x80; };
  pending_.thinking_retracted += int(std::count_if(gone.begin(), gone.end() - std::ptrdiff_t(held), begins));
}

void Reply::take(std::vector<chat::SplitPiece> pieces) {
  for (auto& piece : pieces) {
    if (piece.channel == chat::Channel::thinking) {
      pending_.thinking += piece.text;
      thought_ += piece.text;
    } else {
      pending_.content += matcher_.push(piece.text);
    }
  }
}

// Log-probabilities wait for the text they belong to: a token may end inside a character or be held back.
void Reply::hand_on() {
  const bool last = finished_ && (!pending_.logprobs.empty() || pending_.logprobs_retracted > 0);
  if (pending_.thinking.empty() && pending_.content.empty() && pending_.thinking_retracted == 0 && !last) return;
  content_ += pending_.content;
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
