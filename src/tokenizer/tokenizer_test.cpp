// The contract of tokenizer.h: BOS, provenance, kinds, bytes, end of generation, streaming, and
// errors that name the key.
#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/utf8.h"
#include "tokenizer/normalize.h"
#include "tokenizer/test_support.h"

namespace ponder::tokenizer {
namespace {

using Ids = std::vector<TokenId>;

std::string random_bytes(std::mt19937& rng, size_t n) {
  std::string s;
  const uint32_t style = rng() % 4;
  for (size_t i = 0; i < n; ++i) {
    if (style == 0) s += char(rng());                                  // anything
    if (style == 1) s += char(rng() % 128);                            // ASCII
    if (style == 2) s += "\xe4\xbd\xa0\xf0\x9f\x98\x80 a"[rng() % 9];  // broken characters
    if (style == 3) utf8::append(s, 0x20 + rng() % 0x2ff);             // letters
  }
  return s;
}

TEST(Tokenizer, EveryByteSurvives) {
  test::MiniVocabulary mini;
  const auto loaded = mini.load();
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  std::mt19937 rng(1);
  for (const auto& t : {*loaded, test::load(test::cache_file("llama.cpp-models/ggml-vocab-gpt-2.gguf")),
                        test::load(test::cache_file("llama.cpp-models/ggml-vocab-llama-bpe.gguf"))}) {
    ASSERT_NE(t, nullptr);
    for (int round = 0; round < 500; ++round) {
      const std::string text = random_bytes(rng, rng() % 200);
      ASSERT_EQ(t->decode(t->encode(text, round % 2 == 0), true), text);
    }
  }
}

TEST(Tokenizer, NormalisingModelsGiveFormCAndLoseNoByte) {
  std::mt19937 rng(2);
  for (const auto& t : {test::load_tiny(), test::load(test::cache_file("r1-7b-head.gguf"))}) {
    ASSERT_NE(t, nullptr);
    EXPECT_EQ(t->decode(t->encode("Cafe\u0301 \xff\xfe e\u0301\xcc", false), true), "Caf\u00e9 \xff\xfe \u00e9\xcc");
    for (int round = 0; round < 500; ++round) {
      std::string text = random_bytes(rng, rng() % 200);
      if (utf8::is_valid(text)) {
        ASSERT_EQ(t->decode(t->encode(text, false), true), to_nfc(text));
      } else if (std::all_of(text.begin(), text.end(), [](char c) { return uint8_t(c) < 0xcc || uint8_t(c) > 0xcd; })) {
        std::string once = t->decode(t->encode(text, false), true);
        ASSERT_EQ(t->decode(t->encode(once, false), true), once);  // stable
      }
    }
  }
}

TEST(Tokenizer, BosOnceNeverTwice) {
  test::MiniVocabulary mini;
  const auto encode = [&](const std::vector<Segment>& segments, bool add_bos) {
    const auto t = mini.load();
    EXPECT_TRUE(t.ok());
    return (*t)->encode(segments, {.add_bos = add_bos});
  };
  const TokenId a = mini.load().value()->find("a").value();
  EXPECT_EQ(encode({{"a", false}}, true), (Ids{mini.bos, a}));
  EXPECT_EQ(encode({{"a", false}}, false), (Ids{a}));
  EXPECT_EQ(encode({}, true), (Ids{mini.bos}));
  EXPECT_EQ(encode({{"<s>", true}, {"a", false}}, true), (Ids{mini.bos, a}));
  // A BOS that the user typed is text, so the real one is still missing.
  const Ids typed = encode({{"<s>", false}}, true);
  EXPECT_EQ(typed.front(), mini.bos);
  EXPECT_GT(typed.size(), 2u);
  EXPECT_EQ(std::count(typed.begin(), typed.end(), mini.bos), 1);
  mini.add_bos = false;
  EXPECT_EQ(encode({{"a", false}}, true), (Ids{a}));
  mini.add_bos = true;
  mini.ids.erase(mini.ids.begin());  // the model wants BOS but names none
  EXPECT_EQ(encode({{"a", false}}, true), (Ids{a}));
}

TEST(Tokenizer, BosDefaultOfLlama3) {
  const auto t = test::load(test::cache_file("llama.cpp-models/ggml-vocab-llama-bpe.gguf"));
  ASSERT_NE(t, nullptr);
  EXPECT_TRUE(t->add_bos());
  EXPECT_EQ(t->encode("", false, {.add_bos = true}), Ids{128000});
}

TEST(Tokenizer, ProvenanceDoesNotChangeOrdinaryText) {
  const auto t = test::load(test::cache_file("r1-7b-head.gguf"));
  ASSERT_NE(t, nullptr);
  const std::vector<std::string> texts = nlohmann::json::parse(test::read_file(test::golden_file("texts.json")));
  std::mt19937 rng(4);
  for (const std::string& text : texts) {
    std::vector<Segment> segments;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 20;
      segments.push_back({text.substr(at, n), false});
      at += n;
    }
    // Cut anywhere, even inside characters, all of one provenance: as one.
    ASSERT_EQ(t->encode(segments), t->encode(text, false)) << text;
    for (Segment& s : segments) s.from_template = true;
    ASSERT_EQ(t->encode(segments), t->encode(text, true)) << text;
    // Mixed provenance, where no control token is spelled: as one, too.
    if (t->encode(text, true) != t->encode(text, false)) continue;
    for (Segment& s : segments) s.from_template = rng() % 2 == 0;
    ASSERT_EQ(t->encode(segments), t->encode(text, false)) << text;
  }
}

TEST(Tokenizer, RenderedPromptOfR1) {
  const auto t = test::load(test::cache_file("r1-7b-head.gguf"));
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->pre_tokenizer(), "deepseek-r1-qwen");
  EXPECT_EQ(t->vocab_size(), 152064);
  EXPECT_EQ(t->bos(), 151646);
  EXPECT_EQ(t->eos(), 151643);
  EXPECT_EQ(t->find("</think>"), 151649);
  EXPECT_EQ(t->kind(151648), TokenKind::user_defined);
  EXPECT_EQ(t->kind(151644), TokenKind::control);
  const auto prompt = [](const std::string& user) {
    return std::vector<Segment>{
        {"<｜begin▁of▁sentence｜><｜User｜>", true}, {user, false}, {"<｜Assistant｜>", true}, {"<think>\n", true}};
  };
  const EncodeOptions options{.add_bos = true};
  Ids ids = t->encode(prompt("Hi"), options);
  EXPECT_EQ(ids, (Ids{151646, 151644, 13048, 151645, 151648, 198}));
  std::string joined;
  for (const Segment& s : prompt("2+2 <think> ok?")) joined += s.text;
  EXPECT_EQ(t->encode(prompt("2+2 <think> ok?"), options), t->encode(joined, true));
  // A user who types the model's tags gets text.
  ids = t->encode(prompt("<｜User｜>x<｜Assistant｜><｜end▁of▁sentence｜>"), options);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 151644), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 151645), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 151643), 0);
  EXPECT_EQ(t->decode(ids, true),
            "<｜begin▁of▁sentence｜><｜User｜><｜User｜>x<｜Assistant｜><｜end▁of▁sentence｜><"
            "｜Assistant｜><think>\n");
}

TEST(Tokenizer, EndOfGeneration) {
  const auto ends = [](const char* file) {
    const auto t = test::load(test::cache_file(file));
    return t ? Ids(t->end_of_generation().begin(), t->end_of_generation().end()) : Ids{};
  };
  EXPECT_EQ(ends("qwen-0.5b.gguf"), (Ids{151643, 151645}));   // <|endoftext|>, <|im_end|>
  EXPECT_EQ(ends("r1-7b-head.gguf"), (Ids{151643, 151647}));  // end of sentence, <|EOT|>
  EXPECT_EQ(ends("smollm2.gguf"), (Ids{0, 2}));
  EXPECT_EQ(ends("llama.cpp-models/ggml-vocab-llama-bpe.gguf"), (Ids{128001, 128009}));

  test::MiniVocabulary mini;
  const TokenId eot = mini.add("<turn>", 3), eom = mini.add("<message>", 3);
  mini.add("<|end|>", 1);  // ordinary text in this vocabulary
  const TokenId known = mini.add("<|eot_id|>", 4);
  mini.ids.push_back({"eot", uint32_t(eot)});
  mini.ids.push_back({"eom", uint32_t(eom)});
  const auto t = mini.load();
  ASSERT_TRUE(t.ok()) << t.error().message;
  const Ids got((*t)->end_of_generation().begin(), (*t)->end_of_generation().end());
  EXPECT_EQ(got, (Ids{mini.eos, eot, eom, known}));
  EXPECT_TRUE((*t)->is_end_of_generation(eom));
  EXPECT_FALSE((*t)->is_end_of_generation(mini.think));
}

TEST(Tokenizer, Pieces) {
  const test::MiniVocabulary mini;
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ((*t)->piece(*(*t)->find("hell"), false), "hell");
  EXPECT_EQ((*t)->piece(*(*t)->find("Ġ"), false), " ");
  EXPECT_EQ((*t)->piece(0, false), std::string_view("\0", 1));
  EXPECT_EQ((*t)->piece(255, false), "\xff");
  EXPECT_EQ((*t)->piece(mini.bos, false), "");
  EXPECT_EQ((*t)->piece(mini.bos, true), "<s>");
  EXPECT_EQ((*t)->piece(mini.think, false), "<think>");
  for (const TokenId id : {-1, (*t)->vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ((*t)->piece(id, true), "");
    EXPECT_EQ((*t)->kind(id), TokenKind::unused);
  }
  EXPECT_EQ((*t)->find("no such"), std::nullopt);
  EXPECT_EQ((*t)->find(""), std::nullopt);
}

TEST(Tokenizer, BytesWithoutATokenAreDropped) {
  test::MiniVocabulary mini;
  mini.tokens[0xff] = "unreachable";
  const auto t = mini.load();
  ASSERT_TRUE(t.ok()) << t.error().message;
  EXPECT_EQ((*t)->decode((*t)->encode("a\xff"
                                      "b",
                                      false),
                         true),
            "ab");
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const auto t = test::load_tiny();
  ASSERT_NE(t, nullptr);
  const std::vector<std::string> texts = nlohmann::json::parse(test::read_file(test::golden_file("texts.json")));
  std::string all;
  for (const auto& text : texts) all += text;
  const Ids expected = t->encode(all, false);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) threads.emplace_back([&] { ids = t->encode(all, false); });
  for (auto& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, AMegabyteIsEncodedInTime) {
  const auto t = test::load(test::cache_file("r1-7b-head.gguf"));
  ASSERT_NE(t, nullptr);
  for (const char* unit : {"a", " ", "<", "The answer is 42.\n", "e\u0301", "\xff", "<｜User｜>"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = t->encode(text, true);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 10.0) << unit;  // 0.01 to 0.4 s in an ordinary build; quadratic would be hours
    EXPECT_EQ(t->decode(ids, true), to_nfc(text).empty() || !utf8::is_valid(text) ? text : to_nfc(text));
  }
}

TEST(StreamDecoder, AnyChunkingGivesTheSanitisedWhole) {
  std::mt19937 rng(6);
  for (int round = 0; round < 3000; ++round) {
    const std::string bytes = random_bytes(rng, rng() % 60);
    StreamDecoder decoder(nullptr);
    std::string text;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = 1 + rng() % 4;
      const std::string out = decoder.push_bytes(std::string_view(bytes).substr(at, n));
      ASSERT_TRUE(utf8::is_valid(out));
      text += out;
      at += n;
    }
    text += decoder.finish();
    ASSERT_EQ(text, utf8::sanitize(bytes));
    ASSERT_EQ(decoder.finish(), "");
  }
}

TEST(StreamDecoder, HoldsHalfACharacter) {
  const test::MiniVocabulary mini;
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  StreamDecoder decoder(*t);
  EXPECT_EQ(decoder.push(0xe2), "");
  EXPECT_EQ(decoder.push(0x82), "");
  EXPECT_EQ(decoder.push(0xac), "€");
  EXPECT_EQ(decoder.push(0xf0), "");
  EXPECT_EQ(decoder.push('a'), "\uFFFDa");
  EXPECT_EQ(decoder.push(mini.eos), "");
  EXPECT_EQ(decoder.push(0xf0), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(StreamDecoder(*t, true).push(mini.eos), "<|im_end|>");
}

void expect_error(const Result<std::shared_ptr<const Tokenizer>>& t, ErrorCode code, const std::string& part) {
  ASSERT_FALSE(t.ok()) << part;
  EXPECT_EQ(t.error().code, code);
  EXPECT_NE(t.error().message.find(part), std::string::npos) << t.error().message;
  EXPECT_NE(t.error().message.find("mini.gguf"), std::string::npos) << t.error().message;
}

TEST(Tokenizer, ErrorsNameTheKeyAndTheMend) {
  using M = test::MiniVocabulary;
  M m;
  m.model = "llama";
  expect_error(m.load(), ErrorCode::unsupported,
               "tokenizer.ggml.model: \"llama\" (SentencePiece) is not supported; supported: \"gpt2\"");
  m = M();
  m.pre = "newest-model";
  expect_error(m.load(), ErrorCode::unsupported, "unknown pre-tokenizer \"newest-model\"; known: deepseek-coder, ");
  m = M();
  m.kinds.pop_back();
  expect_error(m.load(), ErrorCode::invalid_file, "tokenizer.ggml.token_type");
  m = M();
  m.kinds[3] = 9;
  expect_error(m.load(), ErrorCode::invalid_file, "tokenizer.ggml.token_type: entry 3");
  m = M();
  m.ids[0].second = uint32_t(m.tokens.size());
  expect_error(m.load(), ErrorCode::invalid_file, "tokenizer.ggml.bos_token_id");
  m = M();
  m.tokens = {"many", "words", "no", "bytes"};
  m.kinds = {1, 1, 1, 1};
  m.merges.clear();
  m.ids.clear();
  expect_error(m.load(), ErrorCode::invalid_file, "single byte");
  m.tokens.clear();
  m.kinds.clear();
  expect_error(m.load(), ErrorCode::invalid_file, "tokenizer.ggml.tokens");
  gguf::Writer w;
  w.add_string("tokenizer.ggml.model", "gpt2");
  expect_error(M::load_bytes(w.header()), ErrorCode::invalid_file, "tokenizer.ggml.tokens");
  w.add_u32("tokenizer.ggml.pre", 1);
  expect_error(M::load_bytes(w.header()), ErrorCode::invalid_file, "tokenizer.ggml.pre");
  expect_error(M::load_bytes(gguf::Writer().header()), ErrorCode::invalid_file, "tokenizer.ggml.model");
}

TEST(Tokenizer, NoBosWrittenAsAllOnes) {
  test::MiniVocabulary mini;
  mini.ids[0].second = UINT32_MAX;
  const auto t = mini.load();
  ASSERT_TRUE(t.ok()) << t.error().message;
  EXPECT_EQ((*t)->bos(), std::nullopt);
}

TEST(Tokenizer, WithoutPreTheDefaultIsUsed) {
  test::MiniVocabulary mini;
  mini.pre.clear();
  const auto t = mini.load();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ((*t)->pre_tokenizer(), "default");
}

}  // namespace
}  // namespace ponder::tokenizer
