// Prompts of published templates against Jinja2 itself (tools/make-golden/templates.py), and the
// provenance of every character in them.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "chat/test_support.h"

namespace ponder::chat {
namespace {

using Json = nlohmann::ordered_json;

Json golden() {
  std::string text;
  EXPECT_TRUE(test::read_file(std::string(PONDER_SOURCE_DIR) + "/tests/golden/template/published.json", text));
  return Json::parse(text, nullptr, false);
}

RenderInput input_of(const Json& scenario, int64_t date) {
  RenderInput input;
  auto messages = messages_from_json(scenario.at("messages"));
  EXPECT_TRUE(messages) << messages.error().message;
  if (messages) input.messages = *messages;
  if (scenario.contains("tools")) input.tools_json = scenario.at("tools").dump();
  input.add_generation_prompt = scenario.value("add_generation_prompt", true);
  if (scenario.contains("enable_thinking")) input.enable_thinking = scenario.at("enable_thinking").get<bool>();
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.date = date;
  return input;
}

TEST(PublishedTemplates, RenderAsJinja2Does) {
  const Json all = golden();
  ASSERT_GE(all.at("results").size(), 70u);
  int compared = 0;
  for (const auto& [name, entry] : all.at("results").items()) {
    const std::string source = test::template_source(name);
    ASSERT_EQ(test::fnv1a64(source), entry.at("source").get<std::string>())
        << name << " is not the file the expectations were made from";
    const auto compiled = Template::compile(source);
    ASSERT_TRUE(compiled) << name << ": " << compiled.error().message;
    for (const auto& [scenario, expected] : entry.at("cases").items()) {
      SCOPED_TRACE(name + " / " + scenario);
      const auto result =
          (*compiled)->render(input_of(all.at("scenarios").at(scenario), all.at("date").get<int64_t>()));
      if (expected.contains("error")) {
        // Python's generators cannot be written as JSON; here they are lists, and such templates
        // work.
        if (expected.at("error").get<std::string>().find("generator") != std::string::npos) continue;
        EXPECT_FALSE(result) << "Jinja2 says: " << expected.at("error") << "\nwe say: " << to_text(*result);
        continue;
      }
      ASSERT_TRUE(result) << result.error().message;
      const std::string text = to_text(*result);
      ++compared;
      if (expected.contains("text")) {
        EXPECT_EQ(text, expected.at("text").get<std::string>());
      } else {
        EXPECT_EQ(test::fnv1a64(text), expected.at("fnv1a64").get<std::string>())
            << "expected " << expected.at("bytes") << " bytes, got " << text.size() << ":\n"
            << text;
      }
    }
  }
  EXPECT_GT(compared, 750);
}

// Every character of a message is moved to the private use area, so that it can be told from the
// template's own text wherever it lands: such characters must come out as user text, and everything
// else that users did not write as template text.
std::string disguise(const std::string& text) {
  std::string out;
  for (const char c : text) {  // U+E000 + byte
    out += char(0xEE);
    out += char(0x80 | (uint8_t(c) >> 6));
    out += char(0x80 | (uint8_t(c) & 0x3F));
  }
  return out;
}

bool is_disguised(std::string_view s, size_t i) {
  return uint8_t(s[i]) == 0xEE && i + 2 < s.size() && uint8_t(s[i + 1]) >= 0x80 && uint8_t(s[i + 1]) <= 0x83;
}

TEST(PublishedTemplates, KnowWhoWroteEveryCharacter) {
  const Json all = golden();
  size_t disguised = 0;
  for (const auto& [name, entry] : all.at("results").items()) {
    const std::string source = test::template_source(name);
    const auto compiled = Template::compile(source);
    ASSERT_TRUE(compiled) << name;
    for (const char* scenario : {"system", "history_thought", "tools_call", "tools_reply", "tools_two_calls"}) {
      SCOPED_TRACE(name + " / " + scenario);
      RenderInput input = input_of(all.at("scenarios").at(scenario), 0);
      for (Message& m : input.messages) {
        m.content = disguise(m.content);
        m.thinking = disguise(m.thinking);
        for (ToolCall& call : m.tool_calls) {
          call.name = disguise(call.name);
          call.arguments = "{\"" + disguise("city") + "\": \"" + disguise("Paris") + "\"}";
        }
      }
      const auto result = (*compiled)->render(input);
      if (!result) continue;  // refused, as above
      bool last = false, first = true;
      for (const tokenizer::Segment& s : *result) {
        ASSERT_FALSE(s.text.empty());
        ASSERT_TRUE(first || s.from_template != last) << "neighbours of the same kind are one segment";
        first = false;
        last = s.from_template;
        for (size_t i = 0; i < s.text.size(); ++i) {
          if (!is_disguised(s.text, i)) continue;
          ++disguised;
          ASSERT_FALSE(s.from_template) << "user text in template segment: " << s.text;
        }
        // The converse: no control token that stands in the template's source is ever user text.
        if (!s.from_template) {
          ASSERT_EQ(s.text.find("<|im_"), std::string::npos);
          ASSERT_EQ(s.text.find("<｜"), std::string::npos);
          ASSERT_EQ(s.text.find("[INST]"), std::string::npos);
        }
      }
    }
  }
  EXPECT_GT(disguised, 10'000u);
}

}  // namespace
}  // namespace ponder::chat
