// UTF-8: decoding one code point, validating, and cutting a byte stream so that no half character is ever emitted.
// Source: RFC 3629 (no surrogates, no overlong forms, at most U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ponder::utf8 {

constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
  char32_t code_point;  ///< kReplacement where the bytes are not valid
  uint8_t length;       ///< bytes consumed, at least 1 (a maximal valid prefix of a broken sequence counts as one)
  bool valid;
};

/// Decodes the code point at the start of `text` (not empty).
Decoded decode(std::string_view text);

/// Appends `code_point` (valid, or replaced by U+FFFD) to `out`.
void append(std::string& out, char32_t code_point);

bool is_valid(std::string_view text);

/// `text` with every invalid sequence replaced by U+FFFD, as Python's errors="replace" does.
std::string sanitize(std::string_view text);

/// Length of the longest prefix of `text` that does not end inside a character that more bytes could complete.
/// Bytes that can never become a character are not held back.
size_t complete_prefix(std::string_view text);

}  // namespace ponder::utf8
