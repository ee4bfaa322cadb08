// The tokenizer of byte-level BPE vocabularies (tokenizer.ggml.model = "gpt2").
#pragma once

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace ponder::tokenizer {

/// How text becomes tokens, in this order:
///  1. Segments are joined. Where one ends has no influence on ordinary text: "Hel" + "lo" is
///  "Hello", as if the template
///     had been rendered to one string; only the search for control tokens looks at provenance.
///  2. Added tokens are found (AddedTokens). What lies between two of them is a run of plain text.
///  3. Of a run, bytes that are not valid UTF-8 are encoded one by one, so that none is lost; the
///  rest is normalised if
///     the model wants it, split into pieces (Splitter), and each piece is encoded (Bpe).
class ByteLevelTokenizer final : public Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> load(const gguf::File& file);

  using Tokenizer::encode;
  std::vector<TokenId> encode(std::span<const Segment> segments, const EncodeOptions& options) const override;
  std::string_view piece(TokenId id, bool render_control) const override;
  int vocab_size() const override { return vocabulary_.size(); }
  TokenKind kind(TokenId id) const override;
  std::optional<TokenId> find(std::string_view text) const override { return vocabulary_.find(text); }
  std::optional<TokenId> bos() const override { return vocabulary_.bos; }
  std::optional<TokenId> eos() const override { return vocabulary_.eos; }
  bool add_bos() const override { return add_bos_; }
  bool add_eos() const override { return add_eos_; }
  std::span<const TokenId> end_of_generation() const override { return vocabulary_.end_of_generation; }
  std::string_view pre_tokenizer() const override { return pre_tokenizer_; }

 private:
  ByteLevelTokenizer(Vocabulary vocabulary, Bpe bpe, Splitter splitter, const PreTokenizerSpec& spec);
  class PieceCache;
  void encode_plain(std::string_view run, PieceCache& cache, std::vector<TokenId>& out) const;

  Vocabulary vocabulary_;
  Bpe bpe_;
  AddedTokens added_;
  Splitter splitter_;
  bool nfc_;
  bool add_bos_ = false, add_eos_ = false;
  std::string pre_tokenizer_;
};

}  // namespace ponder::tokenizer
