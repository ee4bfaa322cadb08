// Which marks a model puts around its thoughts, and whether a prompt already opened one. The
// template decides whether a model thinks at all: a vocabulary may hold <think> for the sake of a
// whole family.
#include <algorithm>

#include "chat/chat.h"

namespace ponder::chat {
namespace {

struct Marks {
  std::string_view open, close;
};
// What published templates use, the commonest first.
constexpr Marks kMarks[] = {{"<think>", "</think>"},
                            {"[THINK]", "[/THINK]"},
                            {"<seed:think>", "</seed:think>"},
                            {"<mm:think>", "</mm:think>"},
                            {"<|START_THINKING|>", "<|END_THINKING|>"},
                            {"<|inner_prefix|>", "<|inner_suffix|>"},
                            {"<|thinking|>", "<|/thinking|>"},
                            {"<thinking>", "</thinking>"},
                            {"<thought>", "</thought>"}};

std::vector<tokenizer::TokenId> ids_of(std::string_view mark, const tokenizer::Tokenizer& vocabulary) {
  if (const auto id = vocabulary.find(mark)) return {*id};
  const tokenizer::Segment segment{std::string(mark), true};
  return vocabulary.encode(std::span(&segment, 1), {});
}

bool is_white(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

size_t trimmed_size(std::string_view text) {
  size_t size = text.size();
  while (size > 0 && is_white(text[size - 1])) --size;
  return size;
}

// The length of `prompt` without white space at its end, and whether what then stands last is
// `mark`, all of it written by the template.
bool ends_with_mark(const std::vector<tokenizer::Segment>& prompt, std::string_view mark) {
  if (mark.empty()) return false;
  std::string tail;  // the template's text at the end, from the last character of the user on
  for (auto s = prompt.rbegin(); s != prompt.rend(); ++s) {
    const bool white = trimmed_size(s->text) == 0;
    if (!s->from_template && !white) break;
    tail.insert(0, s->text);
    if (trimmed_size(tail) >= mark.size()) {
      return s->from_template && std::string_view(tail).substr(0, trimmed_size(tail)).ends_with(mark);
    }
  }
  return false;
}

void drop_white_end(std::vector<tokenizer::Segment>& prompt) {
  while (!prompt.empty()) {
    std::string& text = prompt.back().text;
    text.resize(trimmed_size(text));
    if (!text.empty()) return;
    prompt.pop_back();
  }
}

void append_template(std::vector<tokenizer::Segment>& prompt, std::string_view text) {
  if (prompt.empty() || !prompt.back().from_template) {
    prompt.push_back({std::string(text), true});
  } else {
    prompt.back().text += text;
  }
}

}  // namespace

std::optional<ThinkingTags> find_thinking_tags(const Template& chat_template, const tokenizer::Tokenizer& vocabulary) {
  for (const Marks& marks : kMarks) {
    // Either will do: some templates only open the thought, others only cut it out of earlier
    // answers.
    const std::string& source = chat_template.source();
    if (source.find(marks.open) == std::string::npos && source.find(marks.close) == std::string::npos) continue;
    ThinkingTags tags;
    tags.open_text = marks.open;
    tags.close_text = marks.close;
    tags.open = ids_of(marks.open, vocabulary);
    tags.close = ids_of(marks.close, vocabulary);
    if (tags.open.empty() || tags.close.empty()) continue;  // this vocabulary cannot even spell them
    return tags;
  }
  return std::nullopt;
}

bool ends_inside_thought(const std::vector<tokenizer::Segment>& prompt, const ThinkingTags& tags) {
  return ends_with_mark(prompt, tags.open_text);
}

std::string empty_thought(const ThinkingTags& tags, std::string_view sentence) {
  return tags.open_text + "\n" + std::string(sentence) + "\n" + tags.close_text + "\n\n";
}

std::vector<tokenizer::Segment> close_thought(std::vector<tokenizer::Segment> prompt, const ThinkingTags& tags,
                                              std::string_view sentence) {
  if (ends_with_mark(prompt, tags.close_text)) return prompt;  // the template did it
  if (ends_with_mark(prompt, tags.open_text)) {
    drop_white_end(prompt);
    append_template(prompt, empty_thought(tags, sentence).substr(tags.open_text.size()));
  } else {
    append_template(prompt, empty_thought(tags, sentence));
  }
  return prompt;
}

}  // namespace ponder::chat
