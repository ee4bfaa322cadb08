// Our ids against those of the `tokenizers` library (tools/make-golden/tokenizer.py) and against
// the vocabulary tests that llama.cpp ships, for every real vocabulary we can get.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tokenizer/normalize.h"
#include "tokenizer/test_support.h"
#include "tokenizer/tokenizer.h"

namespace ponder::tokenizer {
namespace {

struct Golden {
  const char* name;  ///< of the .ids file and the pre-tokenizer
  const char* file;  ///< in the cache; null: the checked-in vocabulary
};

const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = nlohmann::json::parse(test::read_file(test::golden_file("texts.json")));
  return all;
}

class Ids {
 public:
  explicit Ids(const std::string& name) : bytes_(test::read_file(test::golden_file(name + ".ids"))) {}

  /// One list; false if it stands for "the same".
  bool next(std::vector<TokenId>& ids) {
    const uint32_t n = varint();
    if (n == 0) return false;
    ids.clear();
    for (uint32_t i = 1; i < n; ++i) ids.push_back(TokenId(varint()));
    return true;
  }
  bool at_end() const { return at_ == bytes_.size(); }

 private:
  uint32_t varint() {
    uint32_t value = 0;
    for (int shift = 0;; shift += 7) {
      if (at_ >= bytes_.size()) {
        ADD_FAILURE() << "the .ids file is cut short";
        return 0;
      }
      const uint8_t byte = uint8_t(bytes_[at_++]);
      value |= uint32_t(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  std::string bytes_;
  size_t at_ = 0;
};

std::string show(const Tokenizer& t, const std::vector<TokenId>& ids) {
  std::ostringstream out;
  for (const TokenId id : ids)
    out << id << "="
        << nlohmann::json(std::string(t.piece(id, true))).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
        << " ";
  return out.str();
}

class GoldenIds : public testing::TestWithParam<Golden> {};

TEST_P(GoldenIds, EqualTheReferenceLibrary) {
  const Golden& golden = GetParam();
  const auto t = golden.file != nullptr ? test::load(test::cache_file(golden.file)) : test::load_tiny();
  ASSERT_NE(t, nullptr);
  Ids ids(golden.name);
  ASSERT_GE(texts().size(), 500u);
  std::vector<TokenId> as_template, as_user;
  int wrong = 0;
  for (const std::string& text : texts()) {
    ASSERT_TRUE(ids.next(as_template));
    as_user = as_template;
    ids.next(as_user);
    for (const bool from_template : {true, false}) {
      const auto& expected = from_template ? as_template : as_user;
      const auto got = t->encode(text, from_template);
      if (got != expected && ++wrong <= 10) {
        ADD_FAILURE() << "text " << nlohmann::json(text).dump(-1, ' ', true)
                      << (from_template ? " (template)" : " (user)") << "\n  expected " << show(*t, expected)
                      << "\n  got      " << show(*t, got);
      }
    }
    // --no-special: template text is user text then.
    EXPECT_EQ(t->encode(text, true, {.parse_control = false}), t->encode(text, false));
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(ids.at_end());
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, GoldenIds,
                         testing::Values(Golden{"ponder-tiny", nullptr}, Golden{"qwen2", "qwen-0.5b.gguf"},
                                         Golden{"deepseek-r1-qwen", "r1-7b-head.gguf"},
                                         Golden{"smollm", "smollm2.gguf"},
                                         Golden{"llama-bpe", "llama.cpp-models/ggml-vocab-llama-bpe.gguf"},
                                         Golden{"gpt-2", "llama.cpp-models/ggml-vocab-gpt-2.gguf"},
                                         Golden{"deepseek-llm", "llama.cpp-models/ggml-vocab-deepseek-llm.gguf"},
                                         Golden{"deepseek-coder", "llama.cpp-models/ggml-vocab-deepseek-coder.gguf"},
                                         Golden{"qwen35", "llama.cpp-models/ggml-vocab-qwen35.gguf"}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

// llama.cpp's own tests: texts between separator lines, ids as one line of numbers each.
class LlamaCppIds : public testing::TestWithParam<const char*> {};

TEST_P(LlamaCppIds, EqualItsVocabularyTests) {
  const std::string path = test::cache_file(std::string("llama.cpp-models/ggml-vocab-") + GetParam() + ".gguf");
  const auto t = test::load(path);
  ASSERT_NE(t, nullptr);
  const std::string input = test::read_file(path + ".inp");
  std::istringstream output(test::read_file(path + ".out"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  size_t at = 0;
  int count = 0;
  for (std::string line; std::getline(output, line); ++count) {
    ASSERT_NE(at, std::string::npos) << "more results than texts";
    const size_t end = input.find(separator, at);
    const std::string text = input.substr(at, end == std::string::npos ? end : end - at);
    at = end == std::string::npos ? end : end + separator.size();
    std::istringstream numbers(line);
    const std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
    // llama.cpp leaves out the normalisation that the Qwen family's tokenizer.json asks for; we do
    // not (pre/qwen2.cpp).
    if (to_nfc(text) != text) continue;
    EXPECT_EQ(t->encode(text, false), expected) << nlohmann::json(text).dump();
  }
  EXPECT_GE(count, 40);
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, LlamaCppIds,
                         testing::Values("qwen2", "qwen35", "llama-bpe", "gpt-2", "deepseek-llm", "deepseek-coder",
                                         "starcoder", "refact"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace ponder::tokenizer
