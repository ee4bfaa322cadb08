// SmolLM and SmolLM2, StarCoder, Refact: each digit alone, then GPT-2's pattern.
// Source: tokenizer.json of HuggingFaceTB/SmolLM2-135M-Instruct and bigcode/starcoder2-3b
// (Sequence[Digits(individual_digits), ByteLevel]); Digits takes what Unicode calls a number,
// \p{N}.
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_smollm() {
  static const PreTokenizerSpec spec{
      .names = {"smollm", "starcoder", "refact"},
      .patterns = {R"(\p{N})", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
  };
  return spec;
}

}  // namespace ponder::tokenizer
