// Llama 3 and the R1 distills made from it: numbers in groups of up to three, and a word that is in
// the vocabulary is taken whole ("ignore_merges"). Llama 3 files without add_bos_token want BOS.
// Source: tokenizer.json of meta-llama/Meta-Llama-3-8B.
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_llama_bpe() {
  static const PreTokenizerSpec spec{
      .names = {"llama-bpe", "llama3", "llama-v3"},
      .patterns =
          {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
      .ignore_merges = true,
      .add_bos = true,
  };
  return spec;
}

}  // namespace ponder::tokenizer
