// What every family must do whatever its patterns: lose nothing, give the same with and without the
// JIT, and stay linear. That the patterns are the right ones is shown in golden_test.cpp.
#include "tokenizer/pre_tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>

#include "base/utf8.h"
#include "tokenizer/test_support.h"

namespace ponder::tokenizer {
namespace {

std::vector<std::string_view> split(const Splitter& splitter, std::string_view text) {
  std::vector<std::string_view> pieces;
  splitter.split(text, pieces);
  return pieces;
}

Splitter compile(std::string_view name, bool use_jit = true) {
  const PreTokenizerSpec* spec = find_pre_tokenizer(name);
  EXPECT_NE(spec, nullptr) << name;
  auto splitter = Splitter::compile(*spec, use_jit);
  EXPECT_TRUE(splitter.ok()) << splitter.error().message;
  return std::move(*splitter);
}

void expect_whole(const std::vector<std::string_view>& pieces, std::string_view text) {
  size_t at = 0;
  for (const std::string_view p : pieces) {
    ASSERT_FALSE(p.empty());
    ASSERT_EQ(p.data(), text.data() + at);
    at += p.size();
  }
  ASSERT_EQ(at, text.size());
}

TEST(PreTokenizer, NamesAreKnown) {
  for (const char* name :
       {"qwen2", "deepseek-r1-qwen", "llama-bpe", "llama3", "llama-v3", "smollm", "gpt-2", "default"}) {
    EXPECT_NE(find_pre_tokenizer(name), nullptr) << name;
  }
  EXPECT_EQ(find_pre_tokenizer("no-such"), nullptr);
  const auto names = pre_tokenizer_names();
  EXPECT_TRUE(std::adjacent_find(names.begin(), names.end()) == names.end()) << "a name is claimed twice";
}

TEST(PreTokenizer, DefaultSplitsAsLlamaCppDoes) {
  using Pieces = std::vector<std::string_view>;
  const Splitter s = compile("default");
  EXPECT_EQ(split(s, "Hello, world 12345 x=1"), (Pieces{"Hello", ",", " world", " ", "123", "45", " x", "=", "1"}));
  EXPECT_EQ(split(s, "a  \n\nb"), (Pieces{"a", "  \n", "\n", "b"}));
}

TEST(PreTokenizer, TheMongolianVowelSeparatorIsNoSpace) {
  const Splitter s = compile("gpt-2");
  EXPECT_EQ(split(s, "\u180e\u180e"), (std::vector<std::string_view>{"\u180e\u180e"}));
  EXPECT_EQ(split(s, "a\u0085\u2003b").size(), 4u);  // these two are
}

TEST(PreTokenizer, SameWithoutJit) {
  const std::vector<std::string> texts = nlohmann::json::parse(test::read_file(test::golden_file("texts.json")));
  for (const std::string_view name : pre_tokenizer_names()) {
    const Splitter fast = compile(name, true), slow = compile(name, false);
    for (const std::string& text : texts) {
      const auto pieces = split(fast, text);
      expect_whole(pieces, text);
      ASSERT_EQ(pieces, split(slow, text)) << name << ": " << text;
    }
  }
}

TEST(PreTokenizer, RandomCodePointsLoseNothing) {
  std::mt19937 rng(11);
  for (const std::string_view name : pre_tokenizer_names()) {
    const Splitter splitter = compile(name);
    for (int round = 0; round < 200; ++round) {
      std::string text;
      for (int i = 0; i < 60; ++i) {
        const char32_t c = rng() % (round % 2 ? 0x300 : 0x110000);
        utf8::append(text, c >= 0xd800 && c < 0xe000 ? U' ' : c);
      }
      expect_whole(split(splitter, text), text);
    }
  }
}

std::vector<std::string> hostile_texts(size_t size) {
  const auto repeated = [&](std::string_view unit) {
    std::string s;
    while (s.size() < size) s += unit;
    return s;
  };
  std::vector<std::string> texts;
  for (const char* unit : {" ",   "a",   "1",     "!",      "\n", "\t",      "'", "é",       "字", "\u0301", "a ",
                           "  a", " \n", "\r\n ", "\u3000", "'s", "\u00a0x", "$", "e\u0301", "٣",  "_a"}) {
    texts.push_back(repeated(unit));
  }
  // Runs of spaces that end before something.
  for (const char* unit : {" ", "\n", "\u2003", "\t "}) {
    for (const char* end : {"x", "1", "字", "."}) {
      std::string text(1, 'x');
      texts.push_back(text.append(repeated(unit)).append(end));
    }
    texts.push_back(repeated(unit) + "\n" + repeated(unit) + "x");
  }
  return texts;
}

// The worst we can think of, for every family, with and without the JIT (ten times slower without,
// so it gets less). Quadratic time would be a minute each; the bound leaves room for sanitizers on
// a slow machine.
TEST(PreTokenizer, HostileTextIsLinear) {
  for (const bool use_jit : {true, false}) {
    const auto texts = hostile_texts(use_jit ? 1 << 18 : 1 << 16);
    for (const std::string_view name : pre_tokenizer_names()) {
      const Splitter splitter = compile(name, use_jit);
      for (const std::string& text : texts) {
        const auto start = std::chrono::steady_clock::now();
        const auto pieces = split(splitter, text);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        expect_whole(pieces, text);
        EXPECT_LT(took.count(), 5.0) << name << (use_jit ? "" : " without JIT") << ", "
                                     << nlohmann::json(text.substr(0, 12)) << ": " << pieces.size() << " pieces";
      }
    }
  }
}

}  // namespace
}  // namespace ponder::tokenizer
