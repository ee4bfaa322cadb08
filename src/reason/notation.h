// How answers are written, made plain: Unicode signs and LaTeX to ASCII that canonical.cpp can read.
#pragma once

#include <string>
#include <string_view>

namespace ponder::reason {

void replace_all(std::string& text, std::string_view from, std::string_view to);

/// ASCII for what has an ASCII counterpart: signs, and the full-width letters and digits of U+FF01..U+FF5E.
std::string plain_signs(std::string_view words);

/// "\\frac{1}{2}" to "1/2", "5\\text{ cm}" to "5 cm", "\\{1, 2\\}" to "\1" "1, 2" "\2"; unknown commands to their names.
std::string plain_latex(std::string_view text);

}  // namespace ponder::reason
