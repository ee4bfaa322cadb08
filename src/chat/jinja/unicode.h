// What Python's str knows about characters, as far as templates use it: white space, letters, case,
// printable. Source: Python's documentation of str; the tables are utf8proc's.
#pragma once

#include <string>
#include <string_view>

#include "chat/jinja/text.h"

namespace ponder::chat::jinja {

bool is_space(char32_t c);
bool is_alpha(char32_t c);
bool is_digit(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
/// repr() shows it as it is.
bool is_printable(char32_t c);

size_t count_code_points(std::string_view text);
/// Byte offset of the n-th code point (n <= count).
size_t byte_offset(std::string_view text, size_t n);

enum class Case { upper, lower, swap, capitalize, title };
/// `title` is str.title(): a letter after a letter is small, any other is a capital.
Text change_case(const Text& text, Case what);

}  // namespace ponder::chat::jinja
