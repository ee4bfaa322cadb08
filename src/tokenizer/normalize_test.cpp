// The quick scan must never pass text that normalisation would change.
#include "tokenizer/normalize.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/utf8.h"

namespace ponder::tokenizer {
namespace {

std::string utf8_of(char32_t c) {
  std::string s;
  utf8::append(s, c);
  return s;
}

TEST(Normalize, KnownCases) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");              // the ångström sign is the letter
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8"), "\uac01");  // jamo compose
  EXPECT_EQ(to_nfc("a\u0328\u0301"), "\u0105\u0301");
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");  // a composition exclusion comes apart
  EXPECT_EQ(to_nfc("\ufb01 \u00b2 \u2460"),
            "\ufb01 \u00b2 \u2460");  // compatibility characters stay
  EXPECT_EQ(to_nfc(std::string_view("a\0b", 3)), std::string_view("a\0b", 3));
  EXPECT_EQ(to_nfc(""), "");
  EXPECT_TRUE(is_surely_nfc("plain, größer, Việt, 思考, 한국어, ひらがな, русский 😀"));
  EXPECT_FALSE(is_surely_nfc("e\u0301"));
  EXPECT_FALSE(is_surely_nfc("\uac00\u11a8"));
  EXPECT_FALSE(is_surely_nfc("か\u3099"));
}

// One character is unchanging if it is in form C itself and neither combines with one before it nor
// with one after it that also passed. So: every passing character alone and after each kind of
// starter, and random texts of them.
TEST(Normalize, WhatTheScanPassesIsInFormC) {
  std::vector<char32_t> passing;
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    const std::string s = utf8_of(c);
    if (!is_surely_nfc(s)) continue;
    passing.push_back(c);
    ASSERT_EQ(to_nfc(s), s) << std::hex << uint32_t(c);
  }
  EXPECT_GT(passing.size(), 40000u);
  // Starters that compose with something, among them a Hangul LV syllable and kana.
  for (const char32_t starter : {U'a', U'e', U'O', U'ư', U'か', U'ハ', U'ㄱ', char32_t(0xac00), U'и', U'α', U'ا', U'و',
                                 U'=', U'<', char32_t(0x2190), char32_t(0x2203)}) {
    for (const char32_t c : passing) {
      const std::string s = utf8_of(starter) + utf8_of(c);
      ASSERT_EQ(to_nfc(s), s) << std::hex << uint32_t(starter) << " " << uint32_t(c);
    }
  }
  std::mt19937 rng(5);
  for (int round = 0; round < 20000; ++round) {
    std::string s;
    for (int i = 0; i < 12; ++i) s += utf8_of(passing[rng() % passing.size()]);
    ASSERT_EQ(to_nfc(s), s);
  }
}

}  // namespace
}  // namespace ponder::tokenizer
