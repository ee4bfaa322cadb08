// Bytes that are only the beginning of a character wait for the rest; everything else leaves at
// once.
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace ponder::tokenizer {

StreamDecoder::StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool render_control)
    : tokenizer_(std::move(tokenizer)), render_control_(render_control) {}

std::string StreamDecoder::push(TokenId id) {
  return tokenizer_ ? push_bytes(tokenizer_->piece(id, render_control_)) : std::string();
}

std::string StreamDecoder::push_bytes(std::string_view bytes) {
  held_ += bytes;
  const size_t complete = utf8::complete_prefix(held_);
  std::string text = utf8::sanitize(std::string_view(held_).substr(0, complete));
  held_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = utf8::sanitize(held_);
  held_.clear();
  return text;
}

}  // namespace ponder::tokenizer
