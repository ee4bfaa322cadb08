// Almost all text is in form C, so the quick scan decides: it passes characters of the large
// scripts and symbol blocks in which no character changes under normalisation or combines with one
// before it. Whatever else appears goes to utf8proc. The list of ranges is proved against utf8proc
// in normalize_test.cpp.
#include "tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "base/utf8.h"

namespace ponder::tokenizer {
namespace {

struct CodePoints {
  char32_t first, last;
};

constexpr CodePoints kUnchanging[] = {
    {0x0000, 0x02ff},    // Latin, IPA
    {0x0391, 0x03ce},    // Greek
    {0x0400, 0x0482},    // Cyrillic
    {0x048a, 0x052f},    // Cyrillic
    {0x05d0, 0x05ea},    // Hebrew letters
    {0x0621, 0x063f},    // Arabic letters
    {0x0641, 0x064a},    // Arabic letters
    {0x0e01, 0x0e30},    // Thai consonants
    {0x1e00, 0x1eff},    // Latin with marks (Vietnamese)
    {0x2002, 0x2027},    // punctuation
    {0x2030, 0x205e},    // punctuation
    {0x20a0, 0x20c0},    // currencies
    {0x2190, 0x2328},    // arrows, mathematics, technical
    {0x2500, 0x27bf},    // boxes, shapes, dingbats
    {0x3000, 0x3098},    // CJK punctuation, hiragana
    {0x309b, 0x30ff},    // katakana
    {0x3400, 0x4dbf},    // CJK
    {0x4e00, 0x9fff},    // CJK
    {0xac00, 0xd7a3},    // Hangul syllables (a lone jamo after one is not in the list, so it is seen)
    {0xff01, 0xffef},    // full-width forms
    {0x1f300, 0x1faff},  // emoji
};

bool is_unchanging(char32_t c) {
  const auto* it = std::upper_bound(std::begin(kUnchanging), std::end(kUnchanging), c,
                                    [](char32_t v, const CodePoints& r) { return v < r.first; });
  return it != std::begin(kUnchanging) && c <= (it - 1)->last;
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = uint8_t(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if (lead < 0xcc) {  // up to U+02FF
      i += 2;
      continue;
    }
    const utf8::Decoded d = utf8::decode(text.substr(i));
    if (!is_unchanging(d.code_point)) return false;
    i += d.length;
  }
  return true;
}

std::string to_nfc(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &result,
                   utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) {  // out of memory, or a text of gigabytes: the model copes with text as it came
    std::free(result);
    return std::string(text);
  }
  std::string out(reinterpret_cast<const char*>(result), size_t(size));
  std::free(result);
  return out;
}

}  // namespace ponder::tokenizer
