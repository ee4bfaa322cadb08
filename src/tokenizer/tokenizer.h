// Text to token ids and back. Byte-level BPE with the pre-tokenizers of published models; control tokens are
// recognised only in text that comes from a template, never in what a user typed.
// Sources: Sennrich et al. 2016 (BPE), the GPT-2 byte alphabet, the models' tokenizer.json files (pre-tokenizer
// patterns), GGUF keys tokenizer.ggml.*.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"

namespace ponder::tokenizer {

using TokenId = int32_t;

/// Kinds of vocabulary entries (tokenizer.ggml.token_type); numbers are the file's.
enum class TokenKind : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// A piece of prompt text and where it came from. Control tokens (kind 3) are recognised only where `from_template`;
/// user-defined tokens (kind 4, such as R1's <think>) in all text, as transformers and llama.cpp do.
struct Segment {
  std::string text;
  bool from_template = false;
};

struct EncodeOptions {
  bool parse_control = true;  ///< false (`--no-special`): kind-3 tokens are text everywhere
  bool add_bos = false;       ///< put BOS in front if the model asks for it (add_bos_token) and the text has none yet
};

class Tokenizer {
 public:
  /// Reads tokenizer.ggml.* of a file (a vocabulary-only file will do). Errors name the key; an unknown
  /// pre-tokenizer or model is an error that lists the known ones.
  static Result<std::shared_ptr<const Tokenizer>> load(const gguf::File& file);
  virtual ~Tokenizer() = default;

  virtual std::vector<TokenId> encode(std::span<const Segment> segments, const EncodeOptions& options = {}) const = 0;
  /// One segment of the given provenance.
  std::vector<TokenId> encode(std::string_view text, bool from_template, const EncodeOptions& options = {}) const;

  /// Exact bytes of a token. Control tokens give their text only with `render_control`; unknown ids give "".
  virtual std::string_view piece(TokenId id, bool render_control) const = 0;
  /// All pieces joined (may end in half a character: see StreamDecoder).
  std::string decode(std::span<const TokenId> ids, bool render_control) const;

  virtual int vocab_size() const = 0;
  virtual TokenKind kind(TokenId id) const = 0;
  /// The id whose vocabulary text is exactly `text` (for tags: "</think>"), if there is one.
  virtual std::optional<TokenId> find(std::string_view text) const = 0;

  virtual std::optional<TokenId> bos() const = 0;
  virtual std::optional<TokenId> eos() const = 0;
  virtual bool add_bos() const = 0;
  virtual bool add_eos() const = 0;
  /// Every token that ends a turn (eos, eot, eom, and known end-of-turn control tokens of the vocabulary).
  virtual std::span<const TokenId> end_of_generation() const = 0;
  bool is_end_of_generation(TokenId id) const;

  virtual std::string_view pre_tokenizer() const = 0;  ///< tokenizer.ggml.pre
};

/// Turns a stream of tokens into text that never ends inside a character: incomplete bytes are held until the next
/// token completes them; bytes that can never become a character come out as U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool render_control = false);
  std::string push(TokenId id);
  std::string push_bytes(std::string_view bytes);
  /// What is still held, as U+FFFD. Empties the decoder.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;  // shared with the loaded model
  bool render_control_;
  std::string held_;
};

}  // namespace ponder::tokenizer
