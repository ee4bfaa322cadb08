// Marks are private-use characters around a random number: a template carries them through like any other text. The
// next turn's beginning is found by rendering it twice with different questions and keeping what is equal, so nothing has
// to be known about the template. Next to read: loaded_model.cpp (render), turn.cpp.
#include "runtime/history.h"

#include <algorithm>
#include <charconv>

#include "base/os/system.h"

namespace ponder::runtime {

using tokenizer::Segment;

KeptThoughts::KeptThoughts(std::vector<chat::Message>& messages, bool keep) {
  if (!keep) return;
  mark_ = "\xee\x80\x80" + std::to_string(os::random_u64()) + "\xee\x80\x81";  // U+E000, U+E001
  for (auto& m : messages) {
    if (m.role != "assistant" || m.thinking.empty()) continue;
    m.content = mark_ + std::to_string(thoughts_.size()) + ";" + m.content;
    thoughts_.push_back(std::move(m.thinking));
    m.thinking.clear();
  }
}

std::vector<Segment> KeptThoughts::put_back(std::vector<Segment> prompt, const chat::ThinkingTags& tags) const {
  if (thoughts_.empty()) return prompt;
  std::vector<Segment> out;
  for (Segment& s : prompt) {
    size_t from = 0;
    for (size_t at; (at = s.text.find(mark_, from)) != std::string::npos;) {
      const char* number = s.text.data() + at + mark_.size();
      size_t index = thoughts_.size();
      const auto [end, ec] = std::from_chars(number, s.text.data() + s.text.size(), index);
      if (ec != std::errc() || index >= thoughts_.size()) break;
      if (at > from) out.push_back({s.text.substr(from, at - from), s.from_template});
      out.push_back({tags.open_text + "\n", true});
      out.push_back({thoughts_[index], false});
      out.push_back({"\n" + tags.close_text + "\n\n", true});
      from = size_t(end - s.text.data()) + 1;
    }
    if (from < s.text.size()) out.push_back({s.text.substr(from), s.from_template});
  }
  return out;
}

std::vector<Segment> begin_reply(std::vector<Segment> prompt, const chat::Message& beginning,
                                 const std::optional<chat::ThinkingTags>& tags) {
  if (tags) {
    if (beginning.thinking.empty()) {
      prompt = chat::close_thought(std::move(prompt), *tags);
    } else {
      if (!chat::ends_inside_thought(prompt, *tags)) prompt.push_back({tags->open_text + "\n", true});
      prompt.push_back({beginning.thinking, false});
      if (!beginning.content.empty()) prompt.push_back({"\n" + tags->close_text + "\n\n", true});
    }
  }
  if (!beginning.content.empty()) prompt.push_back({beginning.content, false});
  return prompt;
}

Continuation OpenModel::continuation_of(const ChatRequest& request) const {
  if (request.raw_prompt || !request.continue_last || request.messages.empty()) return Continuation::none;
  const chat::Message& last = request.messages.back();
  if (last.role != "assistant" || !last.tool_calls.empty()) return Continuation::none;
  if (!last.content.empty()) return Continuation::content;
  return last.thinking.empty() || !thinking ? Continuation::none : Continuation::thought;
}

std::vector<tokenizer::TokenId> next_history(const OpenModel& model, ChatRequest request, const std::string& thinking,
                                             const std::string& content) {
  if (request.raw_prompt || !request.context.empty()) return {};
  chat::Message reply;
  reply.role = "assistant";
  if (model.continuation_of(request) != Continuation::none) {
    reply = std::move(request.messages.back());
    request.messages.pop_back();
  }
  reply.thinking += thinking;
  reply.content += content;
  request.messages.push_back(std::move(reply));
  chat::Message user;
  user.role = "user";
  request.messages.push_back(std::move(user));

  std::vector<tokenizer::TokenId> common;
  for (const char* question : {"Why?", "0"}) {
    request.messages.back().content = question;
    const auto segments = model.render(request);
    if (!segments.ok()) return {};
    tokenizer::EncodeOptions encode;
    encode.add_bos = true;
    auto tokens = model.tokenizer->encode(*segments, encode);
    if (common.empty()) {
      common = std::move(tokens);
    } else {
      const auto [end, ignored] = std::mismatch(common.begin(), common.end(), tokens.begin(), tokens.end());
      common.erase(end, common.end());
    }
  }
  return common;
}

}  // namespace ponder::runtime
