// Operations on strings shared by filters and methods. Each keeps the writer of every character.
#pragma once

#include "chat/jinja/context.h"

namespace ponder::chat::jinja {

enum class Side { left, right, both };

/// Strips white space, or the given characters.
Text strip(const Text& text, Side side, const Text* characters = nullptr);
/// str.replace; `count` < 0: all.
Result<Value> replace(Context&, const Text& text, const Text& from, const Text& to, int64_t count);
/// Lines without (or with) their ends, as str.splitlines.
std::vector<Text> split_lines(const Text& text, bool keep_ends = false);
/// Pads to `width` characters with `fill` (one character).
Result<Value> pad(Context&, const Text& text, int64_t width, Side text_side, const Text& fill);
/// text[start:stop:step] by characters; null: not given.
Result<Value> slice_text(Context&, const Text& text, const int64_t* start, const int64_t* stop, int64_t step);
/// Python's rule for slices: the first index, how many, by `step`.
struct SliceRange {
  int64_t start, count;
};
SliceRange slice_range(int64_t size, const int64_t* start, const int64_t* stop, int64_t step);
Result<Value> join(Context&, const Text& separator, const std::vector<Value>& items);

}  // namespace ponder::chat::jinja
