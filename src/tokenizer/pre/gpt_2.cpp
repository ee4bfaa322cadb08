// GPT-2, and the models that use the `tokenizers` library's ByteLevel pre-tokenizer as it comes.
// Source: openai/gpt-2, encoder.py; `tokenizers`, pre_tokenizers/byte_level.rs.
#include "tokenizer/pre_tokenizer.h"

namespace ponder::tokenizer {

const PreTokenizerSpec& pre_tokenizer_gpt_2() {
  static const PreTokenizerSpec spec{
      .names = {"gpt-2"},
      .patterns = {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
  };
  return spec;
}

}  // namespace ponder::tokenizer
