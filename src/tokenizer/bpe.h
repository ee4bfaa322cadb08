// Byte-pair encoding of one pre-token: start from its bytes, and while any two neighbours have a
// merge, merge the pair of lowest rank (leftmost first). Source: Sennrich, Haddow, Birch 2016;
// order of equal ranks as in the `tokenizers` library.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tokenizer/flat_table.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace ponder::tokenizer {

class Bpe {
 public:
  /// Reads tokenizer.ggml.merges ("left right", in order of rank). `ignore_merges`: a pre-token
  /// that is itself a token is that token, whatever the merges would make of it (Llama 3).
  static Result<Bpe> load(const gguf::File& file, const Vocabulary& vocabulary, bool ignore_merges);

  /// Appends the tokens of `piece` (raw bytes). Bytes without a token in the vocabulary are
  /// dropped, as the `tokenizers` library and llama.cpp do; published vocabularies lack at most
  /// bytes that no assigned character uses.
  void encode(std::string_view piece, const Vocabulary& vocabulary, std::vector<TokenId>& out) const;

  /// The two ways encode() may take; public so that a test can hold them against each other.
  /// Both merge in place and return how many symbols are left.
  size_t merge_short(std::span<TokenId> symbols) const;  ///< at most kShort symbols
  size_t merge_long(std::span<TokenId> symbols) const;

  static constexpr size_t kShort = 48;  ///< up to here scanning beats the heap

 private:
  PairTable merges_;
  TextTable whole_;  // bytes -> id of normal tokens, filled only when ignore_merges
  bool ignore_merges_ = false;
};

}  // namespace ponder::tokenizer
