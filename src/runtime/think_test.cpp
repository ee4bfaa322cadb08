// What may be said about thinking, in every dialect, and the table of levels.
#include "runtime/think.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace ponder::runtime {
namespace {

using json = nlohmann::ordered_json;

ThinkOptions body(const char* text) {
  auto t = think_of_body(json::parse(text));
  EXPECT_TRUE(t.ok()) << text << ": " << (t.ok() ? "" : t.error().message);
  return t.ok() ? *t : ThinkOptions();
}

ThinkOptions text(const char* said) {
  auto t = parse_think_text(said);
  EXPECT_TRUE(t.ok()) << said << ": " << (t.ok() ? "" : t.error().message);
  return t.ok() ? *t : ThinkOptions();
}

TEST(Think, FormsOfOllamasField) {
  EXPECT_EQ(body("{}"), ThinkOptions());
  EXPECT_EQ(body(R"({"think": null})"), ThinkOptions());
  EXPECT_EQ(body(R"({"think": true})").on, true);
  EXPECT_FALSE(body(R"({"think": true})").is_off());
  EXPECT_TRUE(body(R"({"think": false})").is_off());
  EXPECT_TRUE(body(R"({"think": 0})").is_off());
  EXPECT_EQ(body(R"({"think": "high"})").level, "high");
  EXPECT_EQ(body(R"({"think": "high"})").on, true);
  EXPECT_EQ(body(R"({"think": 4096})").tokens, 4096);
  EXPECT_EQ(body(R"({"think": -1})").tokens, -1);
  const auto all = body(R"({"think": {"tokens": 64, "seconds": "1m30s", "answer": 5, "close": "hard", "closing": "",
                           "extend": 2, "loop": "stop", "off": "sentence"}})");
  EXPECT_EQ(all.tokens, 64);
  EXPECT_EQ(all.seconds, 90);
  EXPECT_EQ(all.answer, 5);
  EXPECT_EQ(all.close, ThinkOptions::Close::hard);
  EXPECT_EQ(all.closing, "");
  EXPECT_EQ(all.extend, 2);
  EXPECT_EQ(all.loop, ThinkOptions::Loop::stop);
  EXPECT_EQ(all.off_form, "sentence");
  EXPECT_EQ(all.on, true);
  EXPECT_TRUE(body(R"({"think": {"on": false, "tokens": 64}})").is_off()) << "what is said in so many words wins";
  EXPECT_TRUE(body(R"({"think": {"tokens": 64, "on": false}})").is_off());
  EXPECT_EQ(body(R"({"think": {"loop": false}})").loop, ThinkOptions::Loop::off);
}

TEST(Think, OtherDialects) {
  EXPECT_TRUE(body(R"({"reasoning_effort": "none"})").is_off());
  EXPECT_EQ(body(R"({"reasoning_effort": "xhigh"})").level, "max");
  EXPECT_EQ(body(R"({"reasoning": {"effort": "low"}})").level, "low");
  EXPECT_EQ(body(R"({"reasoning": {"max_tokens": 100}})").tokens, 100);
  EXPECT_EQ(body(R"({"thinking": {"type": "enabled", "budget_tokens": 2000}})").tokens, 2000);
  EXPECT_TRUE(body(R"({"thinking": {"type": "disabled"}})").is_off());
  EXPECT_EQ(body(R"({"reasoning_budget_tokens": 300, "reasoning_budget_message": "Stop."})").closing, "Stop.");
  EXPECT_EQ(body(R"({"reasoning_budget_tokens": 300})").tokens, 300);
  EXPECT_FALSE(asks_to_think(body(R"({"reasoning_budget_tokens": 300})"))) << "a limit is no wish";
  EXPECT_TRUE(body(R"({"thinking_budget_tokens": 0})").is_off());
  EXPECT_EQ(body(R"({"thinking_budget_tokens": -1})").tokens, -1);
  EXPECT_TRUE(body(R"({"chat_template_kwargs": {"enable_thinking": false}})").is_off());
  // What is nearer to the point wins.
  EXPECT_EQ(body(R"({"reasoning_effort": "high", "thinking_budget_tokens": 10})").tokens, 10);
  EXPECT_EQ(body(R"({"reasoning_effort": "high", "thinking_budget_tokens": 10})").level, "");
  EXPECT_EQ(body(R"({"think": "low", "reasoning_effort": "high", "thinking_budget_tokens": 10})").level, "low");
  EXPECT_EQ(body(R"({"options": {"think": 77}})").tokens, 77);
  EXPECT_EQ(body(R"({"options": {"think": {"tokens": 77}}, "think": true})").tokens, 77)
      << "a client with fixed fields sends the budget in options";
  EXPECT_TRUE(body(R"({"options": {"think": 77}, "think": false})").is_off());
}

TEST(Think, CommandLine) {
  EXPECT_EQ(text(""), ThinkOptions());
  EXPECT_EQ(text("true").on, true);
  EXPECT_TRUE(text("false").is_off());
  EXPECT_TRUE(text("off").is_off());
  EXPECT_EQ(text("HIGH").level, "high");
  EXPECT_EQ(text("4096").tokens, 4096);
  EXPECT_EQ(text("30s").seconds, 30);
  EXPECT_EQ(text(R"({"tokens": 5, "close": "hard"})").close, ThinkOptions::Close::hard);
  for (const char* wrong : {"hot", "-5", "5 tokens", "{", "-3s", "0s"})
    EXPECT_FALSE(parse_think_text(wrong).ok()) << wrong;
}

TEST(Think, SurvivesTheWire) {
  for (const char* one : {R"(true)", R"(false)", R"("max")", R"(12)", R"(0)", R"({"seconds": 2.5, "answer": 9})",
                          R"({"on": false, "off": "empty"})",
                          R"({"level": "low", "close": "hard", "closing": "x", "extend": 1, "loop": "conclude"})",
                          R"({"loop": "off"})"}) {
    const auto t = parse_think(json::parse(one), "think");
    ASSERT_TRUE(t.ok()) << one;
    const auto back = parse_think(json::parse(to_json(*t).dump()), "think");
    ASSERT_TRUE(back.ok()) << one;
    EXPECT_EQ(*back, *t) << one << " became " << to_json(*t);
  }
}

TEST(Think, LevelsRiseWithTheirNamesAndFitTheContext) {
  for (const uint64_t context : {0, 512, 2048, 32768, 131072}) {
    int before = 0;
    for (const auto& level : think_levels()) {
      const int n = level.tokens(context);
      if (n < 0) {
        EXPECT_STREQ(level.name, "max");
        continue;
      }
      EXPECT_GT(n, before) << level.name << " at " << context;
      if (context > 0) {
        EXPECT_LE(uint64_t(n), context / 2) << level.name;
      }
      before = n;
    }
  }
}

}  // namespace
}  // namespace ponder::runtime
