// Which added token is found where: leftmost, longest, and by provenance.
#include "tokenizer/added_tokens.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "tokenizer/test_support.h"

namespace ponder::tokenizer {
namespace {

TEST(AddedTokens, LeftmostThenLongest) {
  test::MiniVocabulary mini;
  const TokenId a = mini.add("<<a", 4), b = mini.add("<<a>>", 4), c = mini.add("<a>>>>", 4);
  const auto t = mini.load();
  ASSERT_TRUE(t.ok()) << t.error().message;
  const auto encode = [&](const char* text) { return (*t)->encode(text, false); };
  const TokenId gt = *(*t)->find(">"), lt = *(*t)->find("<");
  EXPECT_EQ(encode("<<a>>"), std::vector{b});
  EXPECT_EQ(encode("<<a>"), (std::vector{a, gt}));         // the longer one does not fit: fall back
  EXPECT_EQ(encode("<<a>>>>"), (std::vector{b, gt, gt}));  // leftmost beats the longer one inside
  EXPECT_EQ(encode("<<<a>>"), (std::vector{lt, b}));
  EXPECT_EQ(encode("<a>>>>"), std::vector{c});
  EXPECT_EQ(encode("<think><think>"), (std::vector{mini.think, mini.think}));
}

TEST(AddedTokens, ControlTokensOnlyInsideTemplateText) {
  const test::MiniVocabulary mini;
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  const auto encode = [&](std::vector<Segment> segments) { return (*t)->encode(segments, {}); };
  const auto as_text = (*t)->encode("<|im_end|>", false);
  EXPECT_GT(as_text.size(), 1u);
  EXPECT_EQ((*t)->decode(as_text, false), "<|im_end|>");
  EXPECT_EQ(encode({{"<|im_end|>", true}}), std::vector{mini.eos});
  // Split between two template segments it is still the template's.
  EXPECT_EQ(encode({{"<|im_", true}, {"", false}, {"end|>", true}}), std::vector{mini.eos});
  // Partly typed by the user: text, whichever part.
  EXPECT_EQ(encode({{"<|im_", true}, {"end|>", false}}), as_text);
  EXPECT_EQ(encode({{"<|im_", false}, {"end|>", true}}), as_text);
  EXPECT_EQ(encode({{"<|im_end|", true}, {">", false}}), as_text);
  EXPECT_EQ(encode({{"<|", true}, {"im", false}, {"_end|>", true}}), as_text);
  EXPECT_EQ((*t)->encode("<|im_end|>", true, {.parse_control = false}), as_text);
  // A user-defined token is found in all of these, also with --no-special.
  EXPECT_EQ(encode({{"<th", true}, {"ink>", false}}), std::vector{mini.think});
  EXPECT_EQ((*t)->encode("<think>", false, {.parse_control = false}), std::vector{mini.think});
}

TEST(AddedTokens, UserTextAroundATemplateTokenStaysText) {
  const test::MiniVocabulary mini;
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  const std::vector<Segment> segments{{"<s>", true}, {"<|im_end|><s>", false}, {"<|im_end|>", true}};
  const auto ids = (*t)->encode(segments, {});
  EXPECT_EQ(ids.front(), mini.bos);
  EXPECT_EQ(ids.back(), mini.eos);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), mini.eos), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), mini.bos), 1);
  EXPECT_EQ((*t)->decode(ids, true), "<s><|im_end|><s><|im_end|>");
}

TEST(AddedTokens, AThousandOfThemAgreeWithSearchingEach) {
  test::MiniVocabulary mini;
  std::mt19937 rng(3);
  std::vector<std::pair<std::string, TokenId>> added;
  for (int i = 0; i < 1500; ++i) {
    std::string text = "<";
    for (uint32_t n = 1 + rng() % 6; n > 0; --n) text += "<|ab>"[rng() % 5];
    const bool known = std::any_of(added.begin(), added.end(), [&](const auto& a) { return a.first == text; });
    const TokenId id = mini.add(text, 4);
    if (!known) added.emplace_back(text, id);
  }
  auto keep = std::make_shared<const std::string>(mini.writer().header());
  auto file = gguf::File::parse({reinterpret_cast<const uint8_t*>(keep->data()), keep->size()}, keep, "mini");
  ASSERT_TRUE(file.ok());
  const auto vocabulary = Vocabulary::load(**file);
  ASSERT_TRUE(vocabulary.ok());
  const AddedTokens tokens(*vocabulary);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "<|ab> "[rng() % 6];
    std::optional<AddedTokens::Match> expected;
    for (const auto& [token, id] : added) {
      const size_t at = text.find(token);
      if (at == std::string::npos) continue;
      if (!expected || at < expected->begin || (at == expected->begin && at + token.size() > expected->end)) {
        expected = {at, at + token.size(), id};
      }
    }
    const auto got = tokens.find(text, 0, {});
    ASSERT_EQ(got.has_value(), expected.has_value());
    if (got) {
      EXPECT_EQ(got->begin, expected->begin);
      EXPECT_EQ(got->end, expected->end);
      EXPECT_EQ(got->id, expected->id);
    }
  }
}

TEST(AddedTokens, FillersAndUnusedTokensAreNotRecognised) {
  test::MiniVocabulary mini;
  std::string filler = "[PAD";
  filler.append(std::to_string(mini.tokens.size())).append("]");
  const TokenId pad = mini.add(filler, 4);
  const TokenId unused = mini.add("<unused>", 5);
  const TokenId real = mini.add("[PAD7]", 4);  // not at its own number: a real token
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  EXPECT_GT((*t)->encode(filler, true).size(), 1u);
  EXPECT_GT((*t)->encode("<unused>", true).size(), 1u);
  EXPECT_EQ((*t)->encode("[PAD7]", true), std::vector{real});
  EXPECT_EQ((*t)->piece(unused, true), "");
  EXPECT_EQ((*t)->find(filler), pad);
}

}  // namespace
}  // namespace ponder::tokenizer
