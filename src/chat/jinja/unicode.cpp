// Case is mapped character by character (utf8proc's simple mapping, and the German sharp s by hand,
// which has no single capital); a changed character keeps its writer.
#include "chat/jinja/unicode.h"

#include <utf8proc.h>

#include "base/utf8.h"

namespace ponder::chat::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(utf8proc_int32_t(c)); }

void append_upper(std::string& out, char32_t c) {
  if (c == 0xDF) {
    out += "SS";
  } else {
    utf8::append(out, char32_t(utf8proc_toupper(utf8proc_int32_t(c))));
  }
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_upper(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU; }
bool is_lower(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL; }

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

size_t count_code_points(std::string_view text) {
  size_t n = 0;
  for (const char c : text) n += (uint8_t(c) & 0xC0) != 0x80;
  return n;
}

size_t byte_offset(std::string_view text, size_t n) {
  size_t i = 0;
  while (n > 0 && i < text.size()) {
    ++i;
    while (i < text.size() && (uint8_t(text[i]) & 0xC0) == 0x80) ++i;
    --n;
  }
  return i;
}

Text change_case(const Text& text, Case what) {
  Text out;
  std::string one;
  bool first = true, after_letter = false;
  const std::string_view all = text.view();
  for (size_t i = 0; i < all.size();) {
    const utf8::Decoded d = utf8::decode(all.substr(i));
    bool up = what == Case::upper;
    if (what == Case::swap) up = is_lower(d.code_point);
    if (what == Case::capitalize) up = first;
    if (what == Case::title) up = !after_letter;
    one.clear();
    if (up) {
      append_upper(one, d.code_point);
    } else {
      utf8::append(one, char32_t(utf8proc_tolower(utf8proc_int32_t(d.code_point))));
    }
    out.append(one, text.origin_at(i));
    after_letter = is_upper(d.code_point) || is_lower(d.code_point);
    first = false;
    i += d.length;
  }
  return out;
}

}  // namespace ponder::chat::jinja
