#include "base/utf8.h"

namespace ponder::utf8 {
namespace {

// Allowed range of the second byte for a lead byte, and the length of the whole sequence (0: not a lead byte).
// The second byte alone decides overlong forms, surrogates and the upper limit (RFC 3629, section 4).
struct Lead {
  uint8_t length, low, high;
};

Lead lead_of(uint8_t b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xC2) return {0, 0, 0};
  if (b < 0xE0) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b < 0xF0) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b < 0xF4) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Number of bytes at the start of `text` that are a valid beginning of a sequence with this lead.
size_t valid_bytes(std::string_view text, Lead lead) {
  size_t n = 1;
  while (n < lead.length && n < text.size()) {
    const uint8_t b = uint8_t(text[n]);
    const uint8_t low = n == 1 ? lead.low : 0x80, high = n == 1 ? lead.high : 0xBF;
    if (b < low || b > high) break;
    ++n;
  }
  return n;
}

}  // namespace

Decoded decode(std::string_view text) {
  const uint8_t first = uint8_t(text[0]);
  const Lead lead = lead_of(first);
  if (lead.length == 1) return {first, 1, true};
  if (lead.length == 0) return {kReplacement, 1, false};
  const size_t n = valid_bytes(text, lead);
  if (n < lead.length) return {kReplacement, uint8_t(n), false};
  char32_t c = first & (0x7Fu >> lead.length);
  for (size_t i = 1; i < n; ++i) c = (c << 6) | (uint8_t(text[i]) & 0x3Fu);
  return {c, uint8_t(n), true};
}

void append(std::string& out, char32_t c) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacement;
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | (c >> 6));
    out += char(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += char(0xE0 | (c >> 12));
    out += char(0x80 | ((c >> 6) & 0x3F));
    out += char(0x80 | (c & 0x3F));
  } else {
    out += char(0xF0 | (c >> 18));
    out += char(0x80 | ((c >> 12) & 0x3F));
    out += char(0x80 | ((c >> 6) & 0x3F));
    out += char(0x80 | (c & 0x3F));
  }
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const Decoded d = decode(text);
    if (!d.valid) return false;
    text.remove_prefix(d.length);
  }
  return true;
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded d = decode(text);
    if (d.valid) {
      out.append(text.substr(0, d.length));
    } else {
      append(out, kReplacement);
    }
    text.remove_prefix(d.length);
  }
  return out;
}

size_t complete_prefix(std::string_view text) {
  // Only the last three bytes can belong to an unfinished character.
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const size_t at = text.size() - back;
    const uint8_t b = uint8_t(text[at]);
    if ((b & 0xC0) == 0x80) continue;
    const Lead lead = lead_of(b);
    if (lead.length > back && valid_bytes(text.substr(at), lead) == back) return at;
    break;
  }
  return text.size();
}

}  // namespace ponder::utf8
