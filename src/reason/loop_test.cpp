// The detector against its corpus: loops are called in time, texts that repeat for a reason are left alone.
#include "reason/loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "reason/loop_corpus_support.h"
#include "reason/test_support.h"

namespace ponder::reason {
namespace {

bool has_digit(std::string_view s) { return s.find_first_of("0123456789") != std::string_view::npos; }

// Index of the token at which a loop was called, or -1.
int called_at(const std::vector<tokenizer::TokenId>& ids, LoopDetector::Found* found = nullptr) {
  LoopDetector detector;
  for (size_t i = 0; i < ids.size(); ++i)
    if (const auto f = detector.push(ids[i], has_digit(testing::vocabulary()->piece(ids[i], true)))) {
      if (found) *found = *f;
      return int(i);
    }
  return -1;
}

std::vector<tokenizer::TokenId> encode(const std::string& text) { return testing::vocabulary()->encode(text, false); }

void expect_called_in_time(int number) {
  const corpus::Loop l = corpus::loop(number);
  std::string text = l.before;
  corpus::Dice dice(uint64_t(number) + 77);
  const int before = int(encode(l.before).size());
  // The length of a round as it stands in the text, where tokens run over its seams.
  std::string many;
  for (int i = 0; i < 20; ++i) many += l.round;
  const int period = std::max(1, (int(encode(many + l.round).size()) - int(encode(many).size())));
  int tokens = before, clean = 0;
  for (int i = 0; tokens < before + 4 * std::max(3 * period, 512); ++i) {
    // A word differs about every 200 tokens.
    clean += period;
    const bool spoil = !l.noise.empty() && i > 0 && clean > dice.in(100, 300);
    if (spoil) clean = 0;
    text += spoil ? l.spoiled : l.round;
    tokens += period;
  }
  const int at = called_at(encode(text));
  const int limit = before + std::max(3 * period, 512);
  EXPECT_GE(at, before + period) << number;
  EXPECT_LE(at, limit) << number << ": period " << period << ", round " << l.round;
}

void expect_left_alone(int number) {
  const std::string text = corpus::legitimate(number);
  const auto ids = encode(text);
  EXPECT_GT(ids.size(), 150u) << number;
  LoopDetector::Found found;
  const int at = called_at(ids, &found);
  EXPECT_EQ(at, -1) << number << ": called a loop of " << found.period << " tokens\n" << text.substr(0, 300);
}

TEST(Loop, TunedHalfOfTheLoops) {
  for (int i = 0; i < 100; ++i) expect_called_in_time(i);
}
TEST(Loop, HeldOutHalfOfTheLoops) {
  for (int i = 100; i < 200; ++i) expect_called_in_time(i);
}
TEST(Loop, TunedHalfOfTheTexts) {
  for (int i = 0; i < 100; ++i) expect_left_alone(i);
}
TEST(Loop, HeldOutHalfOfTheTexts) {
  for (int i = 100; i < 200; ++i) expect_left_alone(i);
}

TEST(Loop, ReportsThePeriodAndItsBegin) {
  LoopDetector detector;
  std::optional<LoopDetector::Found> found;
  for (int i = 0; i < 50; ++i) EXPECT_FALSE(detector.push(1000 + i, false));
  for (int i = 0; i < 1000 && !found; ++i) found = detector.push(i % 30, false);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->period, 30);
  EXPECT_EQ(found->begin, 50);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(detector.push(i % 30, false)) << "once";
}

TEST(Loop, ThresholdLeavesRoomForTheFirstRoundAndNoise) {
  for (int p = 1; p < 2000; ++p) {
    EXPECT_LE(p + LoopDetector::threshold(p), std::max(3 * p, 512)) << p;
    EXPECT_GE(LoopDetector::threshold(p), p) << "less than two copies";
  }
}

TEST(Loop, NumbersThatChangeAreProgress) {
  LoopDetector detector;
  for (int i = 0; i < 400; ++i) {
    for (int k = 0; k < 40; ++k) EXPECT_FALSE(detector.push(k, false));
    EXPECT_FALSE(detector.push(5000 + i, true));
  }
}

TEST(Loop, TrimForgetsWhatWasTakenBack) {
  LoopDetector detector;
  int pushed = 0;
  std::optional<LoopDetector::Found> found;
  while (!found) found = detector.push(pushed++ % 20, false);
  detector.trim(20);
  EXPECT_EQ(detector.size(), 20);
  for (int i = 0; i < 300; ++i) EXPECT_FALSE(detector.push(100 + i, false));
  found.reset();
  for (int i = 0; i < 600 && !found; ++i) found = detector.push(i % 20, false);
  EXPECT_TRUE(found) << "a later loop is found again";
}

// O(1): the cost of a token does not grow with what stands before it.
TEST(Loop, CostsTheSameAtEveryLength) {
  const auto time_of = [](int from, int tokens) {
    LoopDetector detector;
    corpus::Dice dice(9);
    for (int i = 0; i < from; ++i) detector.push(dice.in(0, 50), false);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < tokens; ++i) detector.push(dice.in(0, 50), false);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  double early = 1e9, late = 1e9;
  for (int i = 0; i < 5; ++i) {
    early = std::min(early, time_of(1000, 50000));
    late = std::min(late, time_of(500000, 50000));
  }
  EXPECT_LT(late, 20 * early + 0.1) << "a cost that grew with the length would be 500 times as high";
}

}  // namespace
}  // namespace ponder::reason
