// Values that live as long as one rendering: the evaluator's arena owns them, Value holds a plain
// pointer.
#pragma once

#include <string_view>

namespace ponder::chat::jinja {

struct Object {
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual bool callable() const { return false; }
};

}  // namespace ponder::chat::jinja
