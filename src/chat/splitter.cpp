// The splitter sees bytes with the token they came from. A tag that is one token is recognised by
// its id alone, so that the same letters spelled out are text; a tag that the vocabulary has to
// spell is recognised by its bytes, because nothing says how a model will cut it ("</", "think",
// ">\n\n"). What might still become a tag, or a newline that a closing tag would swallow, is held
// back; everything else leaves at once.
#include <algorithm>
#include <deque>

#include "chat/chat.h"

namespace ponder::chat {
namespace {

using tokenizer::TokenId;

bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// The longest proper beginning of `tag` that `text` ends with.
size_t partial_match(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n) {
    if (text.ends_with(tag.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

struct ThinkingSplitter::State {
  enum class Phase { before, thought, answer };

  State(std::shared_ptr<const tokenizer::Tokenizer> t, std::optional<ThinkingTags> g, bool starts_inside,
        bool continues)
      : tokenizer(t), decoder(std::move(t)) {
    if (g && !g->close.empty() && !g->close_text.empty()) tags = std::move(*g);
    if (tags) phase = starts_inside ? Phase::thought : tags->open_text.empty() ? Phase::answer : Phase::before;
    drop_newlines = phase == Phase::thought && !continues;
  }

  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;  // shared with the loaded model
  tokenizer::StreamDecoder decoder;
  std::optional<ThinkingTags> tags;
  Phase phase = Phase::answer;
  bool drop_newlines = false;  // at the beginning of a thought, and of the answer after one

  std::string pending;            // bytes that have not left
  std::deque<size_t> token_ends;  // where in `pending` each token that has not been counted ends
  int counts[2] = {0, 0};         // by channel
  int carried = 0;                // counted tokens whose text has not left
  std::vector<SplitPiece> out;

  Channel channel() const { return phase == Phase::thought ? Channel::thinking : Channel::content; }
  bool by_id(const std::vector<TokenId>& tag, TokenId id) const { return tag.size() == 1 && tag[0] == id; }

  void emit(std::string text) {
    if (text.empty()) return;
    out.push_back({channel(), std::move(text), std::exchange(carried, 0)});
  }

  // The first n bytes of `pending` leave (or are dropped), and the tokens that end with them are
  // counted.
  void leave(size_t n, bool drop) {
    const std::string bytes = pending.substr(0, n);
    pending.erase(0, n);
    while (!token_ends.empty() && token_ends.front() <= n) {
      token_ends.pop_front();
      ++carried;
      ++counts[int(channel())];
    }
    for (size_t& end : token_ends) end -= n;
    if (!drop && n > 0) emit(decoder.push_bytes(bytes));
  }

  // Removes a tag of n bytes that stands first in `pending`; tokens with any byte of it are not
  // counted.
  void remove_tag(size_t n) {
    pending.erase(0, n);
    size_t start = 0;  // of the first token: it may have begun before the tag, which does not matter
    while (!token_ends.empty() && start < n) {
      start = token_ends.front();
      token_ends.pop_front();
    }
    for (size_t& end : token_ends) end -= n;
  }

  void end_channel() {
    emit(decoder.finish());
    if (carried > 0) out.push_back({channel(), {}, std::exchange(carried, 0)});
  }

  void open_thought() {  // white space before the tag goes with it
    phase = Phase::thought;
    leave(pending.size(), true);
    drop_newlines = true;
  }

  void close_thought() {  // what is still held are newlines
    leave(pending.size(), true);
    end_channel();
    phase = Phase::answer;
    drop_newlines = true;
  }

  void advance() {
    while (true) {
      if (drop_newlines) {
        const size_t n = std::min(pending.find_first_not_of('\n'), pending.size());
        leave(n, true);
        if (pending.empty()) return;
        drop_newlines = false;
      }
      if (phase == Phase::answer) return leave(pending.size(), false);
      if (phase == Phase::before ? !advance_before() : !advance_thought()) return;
    }
  }

  // True when the phase changed and what is pending must be looked at again.
  bool advance_before() {
    const size_t white = size_t(std::find_if_not(pending.begin(), pending.end(), is_white) - pending.begin());
    if (white == pending.size()) return false;  // tokens without text count when what they stand before is known
    const std::string_view rest = std::string_view(pending).substr(white);
    if (tags->open.size() > 1) {
      const std::string_view tag = tags->open_text;
      if (rest.starts_with(tag)) {
        phase = Phase::thought;
        leave(white, true);
        remove_tag(tag.size());
        drop_newlines = true;
        return true;
      }
      if (tag.starts_with(rest)) return false;
    }
    phase = Phase::answer;
    return true;
  }

  bool advance_thought() {
    size_t held = 0;
    if (tags->close.size() > 1) {
      const std::string_view tag = tags->close_text;
      if (const size_t hit = pending.find(tag); hit != pending.npos) {
        size_t end = hit;
        while (end > 0 && pending[end - 1] == '\n') --end;
        leave(end, false);
        leave(hit - end, true);
        remove_tag(tag.size());
        end_channel();
        phase = Phase::answer;
        drop_newlines = true;
        return true;
      }
      held = partial_match(pending, tag);
    }
    size_t end = pending.size() - held;
    while (end > 0 && pending[end - 1] == '\n') --end;
    leave(end, false);
    return false;
  }
};

ThinkingSplitter::ThinkingSplitter(std::shared_ptr<const tokenizer::Tokenizer> tokenizer,
                                   std::optional<ThinkingTags> tags, bool starts_inside, bool continues)
    : state_(std::make_unique<State>(std::move(tokenizer), std::move(tags), starts_inside, continues)) {}
ThinkingSplitter::~ThinkingSplitter() = default;
ThinkingSplitter::ThinkingSplitter(ThinkingSplitter&&) noexcept = default;
ThinkingSplitter& ThinkingSplitter::operator=(ThinkingSplitter&&) noexcept = default;

std::vector<SplitPiece> ThinkingSplitter::push(TokenId id) {
  State& s = *state_;
  s.out.clear();
  const bool opens = s.tags && s.by_id(s.tags->open, id), closes = s.tags && s.by_id(s.tags->close, id);
  const bool blank = s.phase == State::Phase::before && std::all_of(s.pending.begin(), s.pending.end(), is_white);
  if (opens && blank) {
    s.open_thought();
  } else if (closes && s.phase == State::Phase::thought) {
    // A spelled-out beginning of nothing can be pending only if closing is by bytes, so these are
    // newlines.
    s.close_thought();
  } else {
    // A tag where it is none is text, even if the vocabulary calls it a control token.
    s.pending += s.tokenizer->piece(id, opens || closes);
    s.token_ends.push_back(s.pending.size());
    s.advance();
  }
  return std::exchange(s.out, {});
}

std::vector<SplitPiece> ThinkingSplitter::finish() {
  State& s = *state_;
  s.out.clear();
  if (s.phase == State::Phase::before) s.phase = State::Phase::answer;
  s.leave(s.pending.size(), false);
  s.end_channel();
  return std::exchange(s.out, {});
}

bool ThinkingSplitter::inside_thought() const { return state_->phase == State::Phase::thought; }

int ThinkingSplitter::thinking_tokens() const {
  const State& s = *state_;
  int n = s.counts[int(Channel::thinking)];
  if (s.phase != State::Phase::thought) return n;
  // Held newlines are of the thought whatever follows; a possible beginning of a spelled-out tag is
  // not counted yet.
  const size_t certain =
      s.pending.size() - (s.tags->close.size() > 1 ? partial_match(s.pending, s.tags->close_text) : 0);
  for (const size_t end : s.token_ends) n += end <= certain;
  return n;
}

int ThinkingSplitter::answer_tokens() const { return state_->counts[int(Channel::content)]; }

}  // namespace ponder::chat
