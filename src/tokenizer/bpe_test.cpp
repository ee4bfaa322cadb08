// The two ways of merging are held against each other and against the definition.
#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <random>

#include "tokenizer/test_support.h"

namespace ponder::tokenizer {
namespace {

struct Loaded {
  Vocabulary vocabulary;
  Bpe bpe;
};

Loaded load_tiny_bpe(bool ignore_merges = false) {
  auto file = gguf::File::open(test::golden_file("ponder-tiny-vocabulary.gguf"));
  EXPECT_TRUE(file.ok());
  auto vocabulary = Vocabulary::load(**file);
  EXPECT_TRUE(vocabulary.ok());
  auto bpe = Bpe::load(**file, *vocabulary, ignore_merges);
  EXPECT_TRUE(bpe.ok());
  return {std::move(*vocabulary), std::move(*bpe)};
}

std::vector<TokenId> symbols_of(const Vocabulary& v, std::string_view text) {
  std::vector<TokenId> symbols;
  for (const char c : text) symbols.push_back(v.byte_token(uint8_t(c)));
  return symbols;
}

TEST(Bpe, MergesByRankThenFromTheLeft) {
  test::MiniVocabulary mini;
  mini.add("aa", 1);
  mini.add("aaa", 1);
  mini.merges = {"a a", "aa a", "l l"};
  const auto t = mini.load();
  ASSERT_TRUE(t.ok()) << t.error().message;
  const auto id = [&](const char* text) { return *(*t)->find(text); };
  EXPECT_EQ((*t)->encode("aaa", false), std::vector{id("aaa")});
  // The pairs of rank 0 come first, from the left: (aa)(aa), and then no merge joins them.
  EXPECT_EQ((*t)->encode("aaaa", false), (std::vector{id("aa"), id("aa")}));
  EXPECT_EQ((*t)->encode("aaaaa", false), (std::vector{id("aa"), id("aaa")}));
}

TEST(Bpe, ShortAndLongWayAgree) {
  const Loaded l = load_tiny_bpe();
  std::mt19937 rng(7);
  const std::string letters = "theanswris1+= \n\\boxed{}";
  for (int round = 0; round < 4000; ++round) {
    std::string text;
    const size_t size = 2 + rng() % (Bpe::kShort - 1);
    const size_t variety = 1 + rng() % letters.size();
    while (text.size() < size) text += letters[rng() % variety];
    auto a = symbols_of(l.vocabulary, text), b = a;
    a.resize(l.bpe.merge_short(a));
    b.resize(l.bpe.merge_long(b));
    ASSERT_EQ(a, b) << text;
  }
}

TEST(Bpe, IgnoreMergesTakesAWholeToken) {
  test::MiniVocabulary mini;
  mini.add("hx", 1);  // a token that no merge makes
  auto keep = std::make_shared<const std::string>(mini.writer().header());
  auto file = gguf::File::parse({reinterpret_cast<const uint8_t*>(keep->data()), keep->size()}, keep, "mini");
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto vocabulary = Vocabulary::load(**file);
  ASSERT_TRUE(vocabulary.ok());
  for (const bool ignore_merges : {false, true}) {
    const auto bpe = Bpe::load(**file, *vocabulary, ignore_merges);
    ASSERT_TRUE(bpe.ok());
    std::vector<TokenId> out;
    bpe->encode("hx", *vocabulary, out);
    EXPECT_EQ(out.size(), ignore_merges ? 1u : 2u);
    // A control token is never taken this way.
    out.clear();
    bpe->encode("<s>", *vocabulary, out);
    EXPECT_EQ(out.size(), 3u);
  }
}

TEST(Bpe, MalformedMergesAreErrors) {
  for (const char* merge : {"", "he", "he ", " he", "he llo", "zz zz", "hello hello"}) {
    test::MiniVocabulary mini;
    mini.merges.push_back(merge);
    const auto t = mini.load();
    ASSERT_FALSE(t.ok()) << merge;
    EXPECT_NE(t.error().message.find("tokenizer.ggml.merges: entry 4"), std::string::npos) << t.error().message;
  }
}

}  // namespace
}  // namespace ponder::tokenizer
