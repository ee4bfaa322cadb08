// Pre-tokenizers cut text into the words that byte-pair encoding then works on. Each published family has its own
// patterns; one file per family in pre/, registered by its name (docs/adding-a-pre-tokenizer.md).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ponder::tokenizer {

/// What a model family does to text before byte-pair encoding. Patterns are written as in the model's tokenizer.json;
/// they are Oniguruma's there and PCRE2's here, and the splitter bridges the differences.
struct PreTokenizerSpec {
  std::vector<std::string_view> names;     ///< values of tokenizer.ggml.pre
  std::vector<std::string_view> patterns;  ///< applied in turn, each to the pieces the ones before left; a match is a
                                           ///< piece of its own, and so is the text between two matches
  bool nfc = false;                        ///< normalise to form C first
  bool ignore_merges = false;              ///< a piece that is a token is taken whole (see Bpe)
  bool add_bos = false;                    ///< default when the file has no tokenizer.ggml.add_bos_token
};

/// The family that answers to `name`, or null.
const PreTokenizerSpec* find_pre_tokenizer(std::string_view name);
/// All names, sorted, for error messages.
std::vector<std::string_view> pre_tokenizer_names();

/// The compiled patterns of a family. Immutable: any number of threads may split at once.
class Splitter {
 public:
  static Result<Splitter> compile(const PreTokenizerSpec& spec, bool use_jit = true);
  ~Splitter();
  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;

  /// Appends the pieces of `text` (valid UTF-8) to `pieces`; together they are exactly `text`.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  Splitter();
  struct Pattern;
  std::vector<Pattern> patterns_;
};

}  // namespace ponder::tokenizer
