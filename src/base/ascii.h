// The case of the letters A to Z, whatever the locale. Other bytes stay as they are: they may be parts of characters.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace ponder::ascii {

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + ('a' - 'A')) : c; }

inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

inline bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace ponder::ascii
