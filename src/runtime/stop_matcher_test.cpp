#include "runtime/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace ponder::runtime {
namespace {

// The definition: cut at the earliest occurrence of any stop string.
std::string expected(const std::string& text, const std::vector<std::string>& stops, bool* hit) {
  size_t first = std::string::npos;
  for (const auto& s : stops) first = std::min(first, text.find(s));
  *hit = first != std::string::npos;
  return text.substr(0, first);
}

TEST(StopMatcher, EveryChunkingGivesTheDefinition) {
  std::mt19937 rng(7);
  const std::vector<std::vector<std::string>> sets = {{"ab"}, {"aab", "b"}, {"aba", "bab", "aaaa"}, {}, {"abc", "c"}};
  for (int round = 0; round < 4000; ++round) {
    const auto& stops = sets[rng() % sets.size()];
    std::string text;
    for (int i = rng() % 12; i >= 0; --i) text += "abc"[rng() % 3];
    StopMatcher matcher(stops);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 4;
      got += matcher.push(text.substr(at, n));
      at += n;
      for (const auto& s : stops) ASSERT_EQ(got.find(s), std::string::npos);
    }
    if (!matcher.hit()) got += matcher.finish();
    bool hit = false;
    ASSERT_EQ(got, expected(text, stops, &hit)) << text;
    ASSERT_EQ(matcher.hit(), hit);
  }
}

TEST(StopMatcher, HoldsBackNoMoreThanNeeded) {
  StopMatcher matcher({"</end>"});
  EXPECT_EQ(matcher.push("a <b"), "a <b");
  EXPECT_EQ(matcher.push("x</e"), "x");
  EXPECT_EQ(matcher.push("nx"), "</enx");
}

}  // namespace
}  // namespace ponder::runtime
