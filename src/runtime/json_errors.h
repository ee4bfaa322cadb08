// What the readers of requests say about a value of a JSON object that they cannot take: the field's name, what it takes,
// and what was found. For both of nlohmann's object types.
#pragma once

#include <cmath>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace ponder::runtime {

/// A value for an error message, cut so that a message never echoes a whole request.
template <class Json>
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

template <class Json>
Error bad_value(const std::string& name, const std::string& takes, const Json& found) {
  return {ErrorCode::invalid_argument, "\"" + name + "\" takes " + takes + ", not " + shown(found)};
}

template <class Json>
Result<int> whole_number(const std::string& name, const Json& v, int low, int high) {
  const double d = v.is_number() ? v.template get<double>() : std::nan("");
  if (!(d >= low && d <= high) || d != std::floor(d))
    return bad_value(name, "a whole number between " + std::to_string(low) + " and " + std::to_string(high), v);
  return int(d);
}

}  // namespace ponder::runtime
