// Qwen3.5: Qwen2's pattern with marks (vowel signs, accents) kept together with letters.
// Source: tokenizer.json of Qwen/Qwen3.5-4B (pattern as quoted in llama.cpp's list of
// pre-tokenizers; NFC like all of the family).
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_qwen35() {
  static const PreTokenizerSpec spec{
      .names = {"qwen35"},
      .patterns =
          {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
      .nfc = true,
  };
  return spec;
}

}  // namespace ponder::tokenizer
