// The filters by file; context.h's find_filter searches all tables.
#pragma once

#include <span>

#include "chat/jinja/context.h"

namespace ponder::chat::jinja {

struct FilterEntry {
  std::string_view name;
  Filter filter;
};
std::span<const FilterEntry> text_filters();
std::span<const FilterEntry> sequence_filters();
std::span<const FilterEntry> value_filters();

using Bound = std::vector<const Value*>;

/// Optional arguments with defaults.
Result<int64_t> int_or(const Value* value, int64_t otherwise, std::string_view what);
bool flag(const Value* value);
/// Looks up "a.b.0" step by step, as filters with an attribute argument do.
Result<Value> lookup_path(Context&, Value subject, const Value& path, const Value* otherwise = nullptr);

}  // namespace ponder::chat::jinja
