// The vocabulary of a model file: texts and kinds of all tokens, the bytes each stands for, and the
// special ids. Copied out of the file once (about 3 MB for 152,000 tokens), so that a tokenizer
// does not keep the file mapped. Source: GGUF keys
// tokenizer.ggml.{tokens,token_type,bos_token_id,eos_token_id,...}.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "tokenizer/flat_table.h"
#include "tokenizer/tokenizer.h"

namespace ponder::tokenizer {

class Vocabulary {
 public:
  /// Errors name the key that is missing or malformed.
  static Result<Vocabulary> load(const gguf::File& file);

  int size() const { return int(kinds_.size()); }
  bool contains(TokenId id) const { return id >= 0 && id < size(); }

  /// The vocabulary's own spelling ("Ġthe", "<think>").
  std::string_view text(TokenId id) const { return view(texts_, text_ends_, id); }
  /// The bytes that it stands for (" the", "<think>"); nothing for unused entries.
  std::string_view bytes(TokenId id) const { return view(bytes_, byte_ends_, id); }
  TokenKind kind(TokenId id) const { return kinds_[id]; }

  /// The id of a spelling, of any kind; the lowest if several have it, but a normal one before all
  /// others.
  std::optional<TokenId> find(std::string_view text) const;
  /// The normal token that is this one byte; -1 if the vocabulary has none (some lack bytes that
  /// UTF-8 never uses).
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

  /// "[PAD151665]" at id 151665: a row that a converter added to fill up the embedding matrix. It
  /// is no token of the model, whatever kind the file gives it, and is never recognised in text.
  bool is_filler(TokenId id) const;

  std::optional<TokenId> bos, eos;
  /// eos, eot, eom and every control or user-defined token whose text is known to end a turn;
  /// sorted.
  std::vector<TokenId> end_of_generation;

 private:
  static std::string_view view(const std::string& arena, const std::vector<uint32_t>& ends, TokenId id) {
    const uint32_t begin = id == 0 ? 0 : ends[size_t(id) - 1];
    return std::string_view(arena).substr(begin, ends[size_t(id)] - begin);
  }
  Result<void> load_tokens(const gguf::File& file);
  Result<void> load_special_ids(const gguf::File& file);

  std::string texts_, bytes_;
  std::vector<uint32_t> text_ends_, byte_ends_;
  std::vector<TokenKind> kinds_;
  std::array<TokenId, 256> byte_tokens_{};
  TextTable ids_;
};

}  // namespace ponder::tokenizer
