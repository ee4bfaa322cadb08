// The entry of the folder: which kind of tokenizer a file has, and what all kinds share. Next:
// byte_level.h.
#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "tokenizer/byte_level.h"

namespace ponder::tokenizer {

Result<std::shared_ptr<const Tokenizer>> Tokenizer::load(const gguf::File& file) {
  constexpr std::string_view kModel = "tokenizer.ggml.model";
  const auto in_file = [&](Error error) { return error.with_context(file.path()); };
  auto model = file.require_string(kModel);
  if (!model) return in_file(std::move(model).error());
  if (*model != "gpt2") {
    std::string what(kModel);
    what.append(": \"").append(model->substr(0, 80)).append("\"");
    if (*model == "llama") what += " (SentencePiece)";
    what +=
        " is not supported; supported: \"gpt2\" (byte-level BPE, used by Qwen, Llama 3, SmolLM and "
        "the DeepSeek-R1 distills)";
    return in_file(Error{ErrorCode::unsupported, std::move(what)});
  }
  auto loaded = ByteLevelTokenizer::load(file);
  if (!loaded) return in_file(std::move(loaded).error());
  return loaded;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool from_template, const EncodeOptions& options) const {
  const Segment segment{std::string(text), from_template};
  return encode(std::span(&segment, 1), options);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool render_control) const {
  std::string text;
  for (const TokenId id : ids) text += piece(id, render_control);
  return text;
}

bool Tokenizer::is_end_of_generation(TokenId id) const {
  const auto ids = end_of_generation();
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace ponder::tokenizer
