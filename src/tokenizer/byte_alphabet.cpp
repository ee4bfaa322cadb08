// Both directions of the GPT-2 byte alphabet, from one small table that is made once.
#include "tokenizer/byte_alphabet.h"

#include "base/utf8.h"

namespace ponder::tokenizer {
namespace {

constexpr int kHighest = 0x143;  // 0x100 + 67, the last of the moved bytes

bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, kHighest + 1> bytes;  // code point -> byte, -1 where it stands for none

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t code_point = stands_for_itself(byte) ? char32_t(byte) : next++;
      utf8::append(characters[byte], code_point);
      bytes[code_point] = int16_t(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet a;
  return a;
}

}  // namespace

const std::array<std::string, 256>& byte_characters() { return alphabet().characters; }

bool append_spelled_bytes(std::string_view text, std::string& out) {
  const auto& bytes = alphabet().bytes;
  const size_t before = out.size();
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = uint8_t(text[i]);
    int byte = -1;
    if (lead < 0x80) {
      byte = bytes[lead];
      i += 1;
    } else if (lead >= 0xc2 && lead <= 0xc5 && i + 1 < text.size() &&
               (uint8_t(text[i + 1]) & 0xc0) == 0x80) {  // U+0080 to U+017F: all we need
      const int code_point = (lead & 0x1f) << 6 | (uint8_t(text[i + 1]) & 0x3f);
      if (code_point <= kHighest) byte = bytes[code_point];
      i += 2;
    }
    if (byte < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(char(byte));
  }
  return true;
}

}  // namespace ponder::tokenizer
