// nlohmann's JSON to template values; apart from context.h because only a few files need the
// library's header.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "chat/jinja/value.h"

namespace ponder::chat::jinja {

/// Json: nlohmann::json or ordered_json (which keeps the order of keys). All strings are of the
/// given origin.
template <class Json>
Result<Value> value_of(const Json& json, Origin origin, int depth = 0);

}  // namespace ponder::chat::jinja
