#include "base/utf8.h"

#include <gtest/gtest.h>

namespace ponder::utf8 {
namespace {

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string s;
    append(s, c);
    const Decoded d = decode(s);
    ASSERT_TRUE(d.valid);
    ASSERT_EQ(d.code_point, c);
    ASSERT_EQ(d.length, s.size());
    for (size_t cut = 1; cut < s.size(); ++cut) ASSERT_EQ(complete_prefix(s.substr(0, cut)), 0u);
  }
}

TEST(Utf8, RefusesOverlongSurrogatesAndLoneBytes) {
  for (const char* bad : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80", "\xFF", "\xE4\xBD"})
    EXPECT_FALSE(is_valid(bad)) << bad;
  EXPECT_TRUE(is_valid("héllo 你好 🙂"));
}

TEST(Utf8, SanitizesLikePythonReplace) {
  EXPECT_EQ(sanitize("a\xE4\xBD z"), "a\xEF\xBF\xBD z");                        // truncated: one replacement
  EXPECT_EQ(sanitize("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // surrogate: one per byte
  EXPECT_EQ(sanitize("\xFF\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Utf8, HoldsBackOnlyWhatMoreBytesCouldComplete) {
  EXPECT_EQ(complete_prefix("ab\xF0\x9F\x99"), 2u);
  EXPECT_EQ(complete_prefix("ab\xF0\x9F\x99\x82"), 6u);
  EXPECT_EQ(complete_prefix("ab\x80"), 3u);      // can never become a character
  EXPECT_EQ(complete_prefix("ab\xE0\x80"), 4u);  // overlong: broken already
  EXPECT_EQ(complete_prefix(""), 0u);
}

}  // namespace
}  // namespace ponder::utf8
