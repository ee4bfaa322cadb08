// The origin of a text is kept as "who wrote byte 0" and the positions where the writer changes:
// almost all strings have no change at all, so that copying and joining cost little more than on
// plain strings.
#include "chat/jinja/text.h"

#include <algorithm>

namespace ponder::chat::jinja {

Origin Text::origin_at(size_t byte) const {
  const size_t n = size_t(std::upper_bound(turns_.begin(), turns_.end(), byte) - turns_.begin());
  return Origin(first_user_ != (n % 2 == 1));
}

void Text::append(std::string_view bytes, Origin origin) {
  if (bytes.empty()) return;
  const bool user = origin == Origin::user;
  if (bytes_.empty()) {
    first_user_ = user;
  } else if ((first_user_ != (turns_.size() % 2 == 1)) != user) {
    turns_.push_back(bytes_.size());
  }
  bytes_.append(bytes);
}

void Text::append(const Text& other) { append(other, 0, other.size()); }

void Text::append(const Text& other, size_t begin, size_t end) {
  end = std::min(end, other.size());
  if (begin >= end) return;
  auto turn = std::upper_bound(other.turns_.begin(), other.turns_.end(), begin);
  bool user = other.origin_at(begin) == Origin::user;
  const std::string_view all = other.bytes_;
  while (begin < end) {
    const size_t stop = turn == other.turns_.end() ? end : std::min(*turn++, end);
    append(all.substr(begin, stop - begin), Origin(user));
    begin = stop;
    user = !user;
  }
}

Text Text::slice(size_t begin, size_t end) const {
  Text result;
  result.append(*this, begin, end);
  return result;
}

std::vector<tokenizer::Segment> Text::segments() const {
  std::vector<tokenizer::Segment> result;
  size_t begin = 0;
  bool user = first_user_;
  for (size_t i = 0; i <= turns_.size() && begin < bytes_.size(); ++i) {
    const size_t end = i < turns_.size() ? turns_[i] : bytes_.size();
    result.push_back({bytes_.substr(begin, end - begin), !user});
    begin = end;
    user = !user;
  }
  return result;
}

}  // namespace ponder::chat::jinja
