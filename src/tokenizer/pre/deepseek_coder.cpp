// DeepSeek Coder (first generation).
// Source: tokenizer.json of deepseek-ai/deepseek-coder-6.7b-instruct (five Splits; the last one is
// Digits).
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_deepseek_coder() {
  static const PreTokenizerSpec spec{
      .names = {"deepseek-coder"},
      .patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                   R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)", R"(\p{N})"},
  };
  return spec;
}

}  // namespace ponder::tokenizer
