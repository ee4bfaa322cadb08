// Tokens to the tree. The grammar and its precedences are Jinja2's (its documentation,
// "Expressions" and "List of Control Structures"); what a chat template has no use for (include,
// import, extends, block) is refused by name.
#pragma once

#include <memory>
#include <string_view>

#include "chat/jinja/ast.h"

namespace ponder::chat::jinja {

Result<std::shared_ptr<const Program>> parse(std::string_view source);

}  // namespace ponder::chat::jinja
