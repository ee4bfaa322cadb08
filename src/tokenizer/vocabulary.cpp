// Reads a vocabulary out of GGUF metadata. Everything is checked here once; later code indexes
// without asking. Next: bpe.cpp (merges), added_tokens.cpp (control and user-defined tokens in
// text).
#include "tokenizer/vocabulary.h"

#include <algorithm>

#include "tokenizer/byte_alphabet.h"

namespace ponder::tokenizer {
namespace {

constexpr uint64_t kMaxTokens = 1u << 26;     // 400 times the largest vocabulary of today
constexpr uint64_t kMaxTextBytes = 1u << 30;  // of all tokens together

// Control tokens that end a turn in published models, for files whose eos_token_id names only one
// of several (Qwen: <|im_end|> and <|endoftext|>; Llama 3: <|eot_id|>, <|eom_id|>, <|end_of_text|>;
// gpt-oss: <|return|>, ...).
constexpr std::string_view kEndOfTurn[] = {
    "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",       "<|end|>",
    "<|return|>",    "<|call|>",   "<|EOT|>",    "<EOT>",      "<end_of_turn>",         "<end_of_utterance>",
    "</s>",          "<eos>",      "[EOS]",      "[EOT]",      "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>",
};

Error bad(std::string_view key, const std::string& what) {
  return Error{ErrorCode::invalid_file, std::string(key) + ": " + what};
}

}  // namespace

Result<Vocabulary> Vocabulary::load(const gguf::File& file) {
  Vocabulary v;
  PONDER_CHECK_OK(v.load_tokens(file));
  PONDER_CHECK_OK(v.load_special_ids(file));
  return v;
}

Result<void> Vocabulary::load_tokens(const gguf::File& file) {
  constexpr std::string_view kTokens = "tokenizer.ggml.tokens", kTypes = "tokenizer.ggml.token_type";
  PONDER_TRY(const gguf::ArrayView* tokens, file.require_array(kTokens, gguf::ValueType::string));
  const uint64_t n = tokens->size();
  if (n == 0 || n > kMaxTokens) {
    return bad(kTokens, "has " + std::to_string(n) + " entries; a vocabulary has 1 to " + std::to_string(kMaxTokens));
  }
  const gguf::ArrayView* types = nullptr;  // absent: all tokens are normal
  if (file.find(kTypes) != nullptr) {
    types = file.get_array(kTypes);
    if (types == nullptr || types->size() != n) {
      return bad(kTypes, "must be an array with one number for each of the " + std::to_string(n) + " tokens");
    }
  }

  text_ends_.reserve(n);
  byte_ends_.reserve(n);
  kinds_.reserve(n);
  texts_.reserve(n * 8);
  bytes_.reserve(n * 7);
  for (uint64_t i = 0; i < n; ++i) {
    const std::string_view text = tokens->string_at(i).value_or("");
    TokenKind kind = TokenKind::normal;
    if (types != nullptr) {
      const int64_t number = types->int_at(i).value_or(-1);
      if (number < 0 || number > 6) {
        return bad(kTypes, "entry " + std::to_string(i) + " is not a token type (1 to 6)");
      }
      if (number != 0) kind = TokenKind(number);  // 0, "undefined", is written by some converters
    }
    if (texts_.size() + text.size() > kMaxTextBytes) {
      return bad(kTokens, "are longer than " + std::to_string(kMaxTextBytes) + " bytes together");
    }
    texts_ += text;
    if (kind == TokenKind::normal || kind == TokenKind::byte) {
      if (!append_spelled_bytes(text, bytes_)) bytes_ += text;
    } else if (kind != TokenKind::unused) {
      bytes_ += text;
    }
    text_ends_.push_back(uint32_t(texts_.size()));
    byte_ends_.push_back(uint32_t(bytes_.size()));
    kinds_.push_back(kind);
  }

  const auto text_of = [this](TokenId id) { return text(id); };
  ids_.reserve(n);
  for (const bool normal : {true, false}) {
    for (TokenId id = 0; id < size(); ++id) {
      if ((kinds_[id] == TokenKind::normal) == normal) ids_.insert(text(id), id, text_of);
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = find(byte_characters()[byte]);
    byte_tokens_[byte] = id && kind(*id) == TokenKind::normal ? *id : -1;
  }
  if (std::all_of(byte_tokens_.begin(), byte_tokens_.end(), [](TokenId id) { return id < 0; })) {
    return bad(kTokens, "hold no token of a single byte; a byte-level vocabulary has them");
  }
  return {};
}

Result<void> Vocabulary::load_special_ids(const gguf::File& file) {
  const auto read = [&](std::string_view key, std::optional<TokenId>& id) -> Result<void> {
    const gguf::KeyValue* kv = file.find(key);
    if (kv == nullptr) return {};
    // Converters write 0xFFFFFFFF (or -1) for "none".
    const auto value = file.get_u64(key);
    if (value && *value < uint64_t(size())) {
      id = TokenId(*value);
      return {};
    }
    if (value == UINT32_MAX) return {};
    if (const int64_t* i = std::get_if<int64_t>(&kv->value); i != nullptr && *i == -1) return {};
    return bad(key, "is not a token of this vocabulary of " + std::to_string(size()));
  };
  std::optional<TokenId> eot, eom;
  PONDER_CHECK_OK(read("tokenizer.ggml.bos_token_id", bos));
  PONDER_CHECK_OK(read("tokenizer.ggml.eos_token_id", eos));
  PONDER_CHECK_OK(read("tokenizer.ggml.eot_token_id", eot));
  PONDER_CHECK_OK(read("tokenizer.ggml.eom_token_id", eom));

  for (const auto& id : {eos, eot, eom}) {
    if (id) end_of_generation.push_back(*id);
  }
  for (const std::string_view text : kEndOfTurn) {
    const auto id = find(text);
    if (id && (kind(*id) == TokenKind::control || kind(*id) == TokenKind::user_defined)) {
      end_of_generation.push_back(*id);
    }
  }
  std::sort(end_of_generation.begin(), end_of_generation.end());
  end_of_generation.erase(std::unique(end_of_generation.begin(), end_of_generation.end()), end_of_generation.end());
  return {};
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
  const TokenId id = ids_.find(text, [this](TokenId i) { return this->text(i); });
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Vocabulary::is_filler(TokenId id) const {
  const std::string_view t = text(id);
  return t.starts_with("[PAD") && t == "[PAD" + std::to_string(id) + "]";
}

}  // namespace ponder::tokenizer
