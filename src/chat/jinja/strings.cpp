// See strings.h.
#include "chat/jinja/strings.h"

#include <algorithm>

#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {

Text strip(const Text& text, Side side, const Text* characters) {
  const std::string_view all = text.view();
  const auto goes = [&](size_t at) {
    const utf8::Decoded d = utf8::decode(all.substr(at));
    if (characters == nullptr) return is_space(d.code_point);
    return characters->view().find(all.substr(at, d.length)) != std::string_view::npos;
  };
  size_t begin = 0, end = all.size();
  while (side != Side::right && begin < end && goes(begin)) begin += utf8::decode(all.substr(begin)).length;
  while (side != Side::left && end > begin) {
    size_t last = end - 1;
    while (last > begin && (uint8_t(all[last]) & 0xC0) == 0x80) --last;
    if (!goes(last)) break;
    end = last;
  }
  return begin == 0 && end == all.size() ? text : text.slice(begin, end);
}

Result<Value> replace(Context& context, const Text& text, const Text& from, const Text& to, int64_t count) {
  const std::string_view all = text.view();
  TextBuilder out(context);
  size_t i = 0;
  uint64_t left = count < 0 ? UINT64_MAX : uint64_t(count);
  if (from.empty()) {  // between all characters
    while (left > 0) {
      --left;
      PONDER_CHECK_OK(out.append(to));
      if (i >= all.size()) return out.take();
      const size_t next = i + utf8::decode(all.substr(i)).length;
      PONDER_CHECK_OK(out.append(text, i, next));
      i = next;
    }
  } else {
    while (left > 0) {
      const size_t hit = all.find(from.view(), i);
      if (hit == all.npos) break;
      --left;
      PONDER_CHECK_OK(out.append(text, i, hit));
      PONDER_CHECK_OK(out.append(to));
      i = hit + from.size();
    }
  }
  PONDER_CHECK_OK(out.append(text, i, all.size()));
  return out.take();
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  const std::string_view all = text.view();
  size_t start = 0;
  for (size_t i = 0; i < all.size();) {
    const utf8::Decoded d = utf8::decode(all.substr(i));
    const char32_t c = d.code_point;
    size_t next = i + d.length;
    const bool ends = (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
    if (ends) {
      if (c == '\r' && next < all.size() && all[next] == '\n') ++next;
      lines.push_back(text.slice(start, keep_ends ? next : i));
      start = next;
    }
    i = next;
  }
  if (start < all.size()) lines.push_back(text.slice(start, all.size()));
  return lines;
}

Result<Value> pad(Context& context, const Text& text, int64_t width, Side text_side, const Text& fill) {
  const int64_t missing = width - int64_t(count_code_points(text.view()));
  if (missing <= 0) return context.make(text);
  // str.center puts the odd character left when the width is odd.
  uint64_t before = 0;
  if (text_side == Side::right) before = uint64_t(missing);
  if (text_side == Side::both) before = uint64_t(missing / 2 + (missing & width & 1));
  TextBuilder out(context);
  PONDER_CHECK_OK(out.repeat(fill, before));
  PONDER_CHECK_OK(out.append(text));
  PONDER_CHECK_OK(out.repeat(fill, uint64_t(missing) - before));
  return out.take();
}

SliceRange slice_range(int64_t size, const int64_t* start, const int64_t* stop, int64_t step) {
  const auto clamp = [&](int64_t i) {
    if (i < 0) i = i < -size ? (step < 0 ? -1 : 0) : i + size;
    return std::min(i, step < 0 ? size - 1 : size);
  };
  const int64_t first = start != nullptr ? clamp(*start) : step < 0 ? size - 1 : 0;
  const int64_t last = stop != nullptr ? clamp(*stop) : step < 0 ? -1 : size;
  const int64_t distance = step < 0 ? first - last : last - first;
  if (distance <= 0) return {first, 0};
  const uint64_t stride = step < 0 ? uint64_t(0) - uint64_t(step) : uint64_t(step);
  return {first, int64_t((uint64_t(distance) - 1) / stride) + 1};
}

Result<Value> slice_text(Context& context, const Text& text, const int64_t* start, const int64_t* stop, int64_t step) {
  const std::string_view all = text.view();
  PONDER_CHECK_OK(context.charge_steps(all.size() / 256));
  std::vector<size_t> offsets;  // of the characters, only when they are not all one byte
  const size_t n = count_code_points(all);
  const bool ascii = n == all.size();
  if (!ascii) {
    PONDER_CHECK_OK(context.charge_bytes(n * sizeof(size_t)));
    offsets.reserve(n + 1);
    for (size_t i = 0; i < all.size(); ++i) {
      if ((uint8_t(all[i]) & 0xC0) != 0x80) offsets.push_back(i);
    }
    offsets.push_back(all.size());
  }
  const auto offset = [&](int64_t i) { return ascii ? size_t(i) : offsets[size_t(i)]; };
  const SliceRange range = slice_range(int64_t(n), start, stop, step);
  TextBuilder out(context);
  if (range.count > 0 && step == 1) {
    PONDER_CHECK_OK(out.append(text, offset(range.start), offset(range.start + range.count)));
  } else {
    for (int64_t k = 0, i = range.start; k < range.count; ++k) {
      PONDER_CHECK_OK(out.append(text, offset(i), offset(i + 1)));
      if (k + 1 < range.count) i += step;
    }
  }
  return out.take();
}

Result<Value> join(Context& context, const Text& separator, const std::vector<Value>& items) {
  TextBuilder out(context);
  for (size_t i = 0; i < items.size(); ++i) {
    PONDER_CHECK_OK(context.charge_steps(1));
    if (i > 0) PONDER_CHECK_OK(out.append(separator));
    if (items[i].is_string()) {
      PONDER_CHECK_OK(out.append(items[i].as_text()));
    } else {
      PONDER_CHECK_OK(out.append(to_text(items[i])));
    }
  }
  return out.take();
}

}  // namespace ponder::chat::jinja
