// Unicode normalisation form C, which some models apply before they split text (Qwen2 and its
// distills). Source: Unicode Standard Annex #15; the work is utf8proc's.
#pragma once

#include <string>
#include <string_view>

namespace ponder::tokenizer {

/// True if `text` (valid UTF-8) surely is in form C already: a quick scan that may say no for text
/// that is.
bool is_surely_nfc(std::string_view text);

/// `text` (valid UTF-8) in form C.
std::string to_nfc(std::string_view text);

}  // namespace ponder::tokenizer
