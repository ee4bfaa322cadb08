// Where the tests of this folder find model files, and vocabularies made in memory.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace ponder::tokenizer::test {

inline std::string cache_file(const std::string& name) {
  const char* folder = std::getenv("PONDER_MODEL_CACHE");
  const char* home = std::getenv("HOME");
  return (folder != nullptr ? std::string(folder) : std::string(home != nullptr ? home : "") + "/.cache/ponder-tests") +
         "/" + name;
}

inline std::string golden_file(const std::string& name) {
  return std::string(PONDER_SOURCE_DIR) + "/tests/golden/tokenizer/" + name;
}

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) ADD_FAILURE() << "cannot read " << path;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

/// Loads the vocabulary of a file; a missing one fails the test.
inline std::shared_ptr<const Tokenizer> load(const std::string& path) {
  auto file = gguf::File::open(path, {.metadata_only = true});
  if (!file) {
    ADD_FAILURE() << file.error().message << "\n(run `make test-models` to fetch the model files of the tests)";
    return nullptr;
  }
  auto tokenizer = Tokenizer::load(**file);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return *tokenizer;
}

inline std::shared_ptr<const Tokenizer> load_tiny() { return load(golden_file("ponder-tiny-vocabulary.gguf")); }

/// A vocabulary to be changed by a test: 256 bytes, "he", "ll", "hell", "hello" and a few added
/// tokens.
struct MiniVocabulary {
  std::vector<std::string> tokens, merges{"h e", "l l", "he ll", "hell o"};
  std::vector<int32_t> kinds;
  std::string model = "gpt2", pre = "gpt-2";
  TokenId bos, eos, think;
  bool add_bos = true;
  std::vector<std::pair<std::string, uint32_t>> ids;

  MiniVocabulary() {
    for (const auto& c : byte_characters()) tokens.push_back(c);
    for (const char* t : {"he", "ll", "hell", "hello"}) tokens.push_back(t);
    kinds.assign(tokens.size(), 1);
    bos = add("<s>", 3);
    eos = add("<|im_end|>", 3);
    think = add("<think>", 4);
    ids = {{"bos", uint32_t(bos)}, {"eos", uint32_t(eos)}};
  }

  TokenId add(const std::string& text, int32_t kind) {
    tokens.push_back(text);
    kinds.push_back(kind);
    return TokenId(tokens.size() - 1);
  }

  gguf::Writer writer() const {
    gguf::Writer w;
    w.add_string("general.architecture", "llama").add_string("tokenizer.ggml.model", model);
    if (!pre.empty()) w.add_string("tokenizer.ggml.pre", pre);
    w.add_strings("tokenizer.ggml.tokens", tokens).add_i32s("tokenizer.ggml.token_type", kinds);
    w.add_strings("tokenizer.ggml.merges", merges).add_bool("tokenizer.ggml.add_bos_token", add_bos);
    for (const auto& [name, id] : ids) w.add_u32("tokenizer.ggml." + name + "_token_id", id);
    return w;
  }

  Result<std::shared_ptr<const Tokenizer>> load() const { return load_bytes(writer().header()); }

  static Result<std::shared_ptr<const Tokenizer>> load_bytes(std::string bytes) {
    const auto keep = std::make_shared<const std::string>(std::move(bytes));
    auto file = gguf::File::parse({reinterpret_cast<const uint8_t*>(keep->data()), keep->size()}, keep, "mini.gguf");
    if (!file) return file.error();
    return Tokenizer::load(**file);
  }
};

}  // namespace ponder::tokenizer::test
