// Qwen2, Qwen2.5, Qwen3, and the R1 distills made from them: the GPT-4 family of patterns with
// single digits. Their tokenizer.json normalises to NFC (llama.cpp does not); we follow
// tokenizer.json, because that is what the models saw. Sources: tokenizer.json of
// Qwen/Qwen2.5-7B-Instruct and of deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B (same pattern, same
// normaliser).
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_qwen2() {
  static const PreTokenizerSpec spec{
      .names = {"qwen2", "deepseek-r1-qwen"},
      .patterns =
          {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
      .nfc = true,
  };
  return spec;
}

}  // namespace ponder::tokenizer
