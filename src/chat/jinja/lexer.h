// Template source to tokens, with Jinja2's white space rules as transformers sets them:
// trim_blocks, lstrip_blocks, one newline at the very end dropped. Source: Jinja2's documentation,
// "Whitespace Control" and "Template Designer".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ponder::chat::jinja {

struct Place {
  int line = 1, column = 1;  ///< from 1, columns in bytes
};

enum class TokenType {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  floating,
  op,
  end
};

struct Token {
  TokenType type;
  std::string text;  ///< data, name, operator, number as written, or the string's value
  Place place;
};

/// The last token is `end`. Errors name line and column.
Result<std::vector<Token>> tokenize(std::string_view source);

/// "template line 3, column 7: message".
Error error_at(ErrorCode code, Place place, std::string_view message);

}  // namespace ponder::chat::jinja
