// A string that knows, for every byte, whether the template or the user wrote it. Every operation
// of the template language keeps that knowledge, so that the rendered prompt can be cut into
// segments and only the template's own text can become control tokens. All text is valid UTF-8
// (callers sanitise what comes from outside).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace ponder::chat::jinja {

enum class Origin : bool { template_text, user };

class Text {
 public:
  Text() = default;
  Text(std::string bytes, Origin origin) : bytes_(std::move(bytes)), first_user_(origin == Origin::user) {}

  const std::string& bytes() const { return bytes_; }
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  /// What this string holds in memory, for budgets.
  size_t cost() const { return bytes_.size() + turns_.size() * sizeof(size_t); }

  Origin origin_at(size_t byte) const;

  void append(std::string_view bytes, Origin origin);
  void append(const Text& other);
  /// Bytes [begin, end) of `other`.
  void append(const Text& other, size_t begin, size_t end);
  Text slice(size_t begin, size_t end) const;

  std::vector<tokenizer::Segment> segments() const;

 private:
  std::string bytes_;
  bool first_user_ = false;    // origin of byte 0
  std::vector<size_t> turns_;  // byte positions > 0 where the origin changes, ascending
};

}  // namespace ponder::chat::jinja
