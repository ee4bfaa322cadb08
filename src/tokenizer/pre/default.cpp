// What files without tokenizer.ggml.pre get: no model's own rule, but the one llama.cpp applies to
// them, so that the same file gives the same tokens here. Source: llama.cpp, src/llama-vocab.cpp,
// the default of llm_tokenizer_bpe.
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_default() {
  static const PreTokenizerSpec spec{
      .names = {"default"},
      .patterns = {R"([\p{P}\$\+<=>\^~\|]+)",
                   R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))", R"(\p{N}+)",
                   R"([0-9][0-9][0-9])"},
  };
  return spec;
}

}  // namespace ponder::tokenizer
