// What the tests of this folder share: the vocabulary of the built-in model.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ponder::reason::testing {

inline std::shared_ptr<const tokenizer::Tokenizer> vocabulary() {
  static const auto kVocabulary = [] {
    const std::string path = std::string(PONDER_SOURCE_DIR) + "/tests/golden/tokenizer/ponder-tiny-vocabulary.gguf";
    auto file = gguf::File::open(path);
    EXPECT_TRUE(file.ok()) << path;
    auto loaded = tokenizer::Tokenizer::load(**file);
    EXPECT_TRUE(loaded.ok());
    return *loaded;
  }();
  return kVocabulary;
}

}  // namespace ponder::reason::testing
