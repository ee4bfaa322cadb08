// Any bytes as a chat template, rendered with small limits over a conversation that has everything in it: no crash, no
// runaway, and control marks that only the user wrote never come out as template text.

// links: base tokenizer chat

#include <cstdint>
#include <cstdlib>
#include <string>

#include "chat/chat.h"

using namespace ponder;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  const auto compiled = chat::Template::compile(source);
  if (!compiled) {
    if (compiled.error().message.empty()) std::abort();
    return 0;
  }
  // A mark that templates cannot make up by accident: private use characters, in every user field.
  const std::string mark = "\xEE\x80\x80\xEE\x80\x81";
  chat::RenderInput input;
  chat::Message system, user, assistant, tool;
  system.role = "system";
  system.content = mark + "s";
  user.role = "user";
  user.content = mark + " a\n\n<think>b</think> " + mark;
  assistant.role = "assistant";
  assistant.thinking = mark + "t\n";
  assistant.tool_calls.push_back({"call00001", mark + "f", "{\"a\": [1, 2.5, \"" + mark + "\"]}"});
  tool.role = "tool";
  tool.content = mark;
  tool.tool_name = mark;
  input.messages = {system, user, assistant, tool};
  input.tools_json = "[{\"type\":\"function\",\"function\":{\"name\":\"" + mark +
                     "\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]";
  input.enable_thinking = true;
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.date = 0;
  const auto result = (*compiled)->render(input, chat::RenderLimits{20'000, 1 << 18, 200});
  if (!result) return 0;
  const bool writes_marks = source.find('\xEE') != std::string::npos || source.find('\\') != std::string::npos;
  bool last = false, first = true;
  for (const tokenizer::Segment& s : *result) {
    if (s.text.empty() || (!first && s.from_template == last)) std::abort();
    if (s.from_template && !writes_marks && s.text.find(mark) != std::string::npos) std::abort();
    last = s.from_template;
    first = false;
  }
  return 0;
}
