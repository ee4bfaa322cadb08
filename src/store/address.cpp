// What kind of network an address belongs to (RFC 6890 lists the special ranges). Parsed here, so
// that the answer does not depend on the C library's lenient forms ("127.1", octal): what is not a
// plain address is not judged, and curl resolves it to a plain one before the connection is judged
// again.
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "store/http.h"

namespace ponder::store {
namespace {

std::optional<std::array<uint8_t, 4>> parse_v4(std::string_view text) {
  std::array<uint8_t, 4> bytes{};
  for (int i = 0; i < 4; ++i) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value > 255 || end == text.data() || end - text.data() > 3) return std::nullopt;
    bytes[i] = uint8_t(value);
    text.remove_prefix(size_t(end - text.data()));
    if (i < 3) {
      if (text.empty() || text[0] != '.') return std::nullopt;
      text.remove_prefix(1);
    }
  }
  if (!text.empty()) return std::nullopt;
  return bytes;
}

std::optional<std::array<uint8_t, 16>> parse_v6(std::string_view text) {
  text = text.substr(0, text.find('%'));  // zone
  if (text.find(':') == std::string_view::npos) return std::nullopt;
  std::vector<uint8_t> head, tail;
  bool gap = false;
  const auto part = [&]() -> std::vector<uint8_t>& { return gap ? tail : head; };
  if (text.starts_with("::")) {
    gap = true;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    const size_t colon = text.find(':');
    const std::string_view group = text.substr(0, colon);
    if (colon == std::string_view::npos && group.find('.') != std::string_view::npos) {
      const auto v4 = parse_v4(group);
      if (!v4) return std::nullopt;
      part().insert(part().end(), v4->begin(), v4->end());
      text = {};
      break;
    }
    unsigned value = 0;
    const auto [end, error] = std::from_chars(group.data(), group.data() + group.size(), value, 16);
    if (error != std::errc() || end != group.data() + group.size() || group.size() > 4) return std::nullopt;
    part().push_back(uint8_t(value >> 8));
    part().push_back(uint8_t(value));
    if (head.size() + tail.size() > 16) return std::nullopt;
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
    if (text.starts_with(':')) {
      if (gap) return std::nullopt;
      gap = true;
      text.remove_prefix(1);
    } else if (text.empty()) {
      return std::nullopt;
    }
  }
  const size_t used = head.size() + tail.size();
  if (used > 16 || (!gap && used != 16)) return std::nullopt;
  std::array<uint8_t, 16> bytes{};
  std::copy(head.begin(), head.end(), bytes.begin());
  std::copy(tail.begin(), tail.end(), bytes.end() - std::ptrdiff_t(tail.size()));
  return bytes;
}

AddressKind kind_v4(const uint8_t* b) {
  if (b[0] == 127) return AddressKind::loopback;
  if (b[0] == 0 || b[0] >= 224 || (b[0] == 169 && b[1] == 254)) return AddressKind::forbidden;
  if (b[0] == 10 || (b[0] == 172 && (b[1] & 0xf0) == 16) || (b[0] == 192 && b[1] == 168) ||
      (b[0] == 100 && (b[1] & 0xc0) == 64))
    return AddressKind::local;
  return AddressKind::open;
}

}  // namespace

AddressKind address_kind(std::string_view address) {
  if (const auto v4 = parse_v4(address)) return kind_v4(v4->data());
  const auto v6 = parse_v6(address);
  if (!v6) return AddressKind::open;
  const auto& b = *v6;
  bool zeros = true;
  for (int i = 0; i < 10; ++i) zeros = zeros && b[i] == 0;
  if (zeros && b[10] == 0xff && b[11] == 0xff) return kind_v4(b.data() + 12);  // ::ffff:a.b.c.d
  if (zeros && b[10] == 0 && b[11] == 0) {
    if (b[12] == 0 && b[13] == 0 && b[14] == 0)
      return b[15] == 1 ? AddressKind::loopback : b[15] == 0 ? AddressKind::forbidden : AddressKind::open;
    return kind_v4(b.data() + 12);  // ::a.b.c.d, withdrawn but still understood
  }
  if (b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b) return kind_v4(b.data() + 12);  // NAT64
  if (b[0] == 0xff || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80)) return AddressKind::forbidden;
  if ((b[0] & 0xfe) == 0xfc) return AddressKind::local;
  return AddressKind::open;
}

}  // namespace ponder::store
