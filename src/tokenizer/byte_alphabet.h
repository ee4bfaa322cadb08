// The byte alphabet of GPT-2: each of the 256 bytes is written as one printable character, so that
// a vocabulary can be kept as readable text. Bytes that print as themselves stand for themselves;
// the 68 others are U+0100, U+0101, ... in byte order ("Ġ" is the space, "Ċ" the newline). Source:
// openai/gpt-2, encoder.py, bytes_to_unicode.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ponder::tokenizer {

/// The character (as UTF-8) that stands for each byte.
const std::array<std::string, 256>& byte_characters();

/// Appends the bytes that `text` spells. False (and nothing appended) if a character is outside the
/// alphabet.
bool append_spelled_bytes(std::string_view text, std::string& out);

}  // namespace ponder::tokenizer
