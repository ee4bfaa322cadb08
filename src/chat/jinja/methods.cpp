// Python's methods of str, list and dict. What would change a list or dict in place is refused, as
// the sandbox that renders templates in Python refuses it.
#include <algorithm>

#include "base/utf8.h"
#include "chat/jinja/context.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

using Bound = std::vector<const Value*>;

Result<const Text*> text_argument(const Value* value, std::string_view what) {
  if (value == nullptr || value->is_none()) return static_cast<const Text*>(nullptr);
  if (value->is_string()) return &value->as_text();
  if (value->is_undefined()) return bad_argument(value->undefined_message());
  return bad_argument(std::string(what) + " must be a string, not " + std::string(value->type_name()));
}

Result<const Text*> required_text(const Value* value, std::string_view what) {
  PONDER_TRY(const Text* text, text_argument(value, what));
  if (text == nullptr) return bad_argument(std::string(what) + " must be a string");
  return text;
}

Result<Value> list_of(Context& context, std::vector<Text> parts, bool tuple = false) {
  List list;
  list.is_tuple = tuple;
  uint64_t bytes = 0;
  for (Text& part : parts) {
    bytes += part.cost() + sizeof(Text);
    list.items.emplace_back(std::move(part));
  }
  PONDER_CHECK_OK(context.charge_bytes(bytes));
  return context.make(std::move(list));
}

// split and rsplit. Without a separator: at runs of white space, no empty parts.
Result<Value> split(Context& context, const Text& text, const CallArgs& args, bool from_right) {
  PONDER_TRY(const Bound a, bind(args, {"sep", "maxsplit"}));
  PONDER_TRY(const Text* separator, text_argument(a[0], "the separator"));
  int64_t limit = -1;
  if (a[1] != nullptr) {
    PONDER_TRY(limit, to_int(*a[1], "maxsplit"));
  }
  const std::string_view all = text.view();
  // Every part is a string object of its own.
  PONDER_CHECK_OK(context.charge_steps(all.size() / 64));
  std::vector<std::pair<size_t, size_t>> parts;
  if (separator != nullptr) {
    const std::string_view sep = separator->view();
    if (sep.empty()) return bad_argument("split: empty separator");
    if (!from_right) {
      size_t start = 0;
      for (size_t hit; limit != 0 && (hit = all.find(sep, start)) != all.npos; limit -= limit > 0) {
        parts.emplace_back(start, hit);
        start = hit + sep.size();
      }
      parts.emplace_back(start, all.size());
    } else {
      size_t end = all.size();
      while (limit != 0 && end >= sep.size()) {
        const size_t hit = all.rfind(sep, end - sep.size());
        if (hit == all.npos) break;
        parts.emplace_back(hit + sep.size(), end);
        end = hit;
        limit -= limit > 0;
      }
      parts.emplace_back(0, end);
      std::reverse(parts.begin(), parts.end());
    }
  } else {
    std::vector<std::pair<size_t, size_t>> words;
    size_t start = 0;
    bool inside = false;
    for (size_t i = 0; i < all.size();) {
      const utf8::Decoded d = utf8::decode(all.substr(i));
      const bool space = is_space(d.code_point);
      if (!space && !inside) start = i;
      if (space && inside) words.emplace_back(start, i);
      inside = !space;
      i += d.length;
    }
    if (inside) words.emplace_back(start, all.size());
    parts = std::move(words);
    if (limit >= 0 && int64_t(parts.size()) > limit + 1) {
      if (!from_right) {
        const size_t rest = parts[size_t(limit)].first;
        parts.resize(size_t(limit));
        parts.emplace_back(rest, all.size());
      } else {
        const size_t n = parts.size() - size_t(limit);
        const size_t rest = parts[n - 1].second;
        parts.erase(parts.begin(), parts.begin() + int64_t(n));
        parts.emplace(parts.begin(), 0, rest);
      }
    }
  }
  PONDER_CHECK_OK(context.charge_bytes(parts.size() * (sizeof(Text) + sizeof(Value))));
  std::vector<Text> texts;
  for (const auto& [begin, end] : parts) texts.push_back(text.slice(begin, end));
  return list_of(context, std::move(texts));
}

Result<Value> partition(Context& context, const Text& text, const CallArgs& args, bool from_right) {
  PONDER_TRY(const Bound a, bind(args, {"sep"}));
  PONDER_TRY(const Text* sep, required_text(a[0], "the separator"));
  if (sep->empty()) return bad_argument("partition: empty separator");
  const size_t hit = from_right ? text.view().rfind(sep->view()) : text.view().find(sep->view());
  if (hit == std::string_view::npos)
    return list_of(context, from_right ? std::vector<Text>{{}, {}, text} : std::vector<Text>{text, {}, {}}, true);
  return list_of(context,
                 {text.slice(0, hit), text.slice(hit, hit + sep->size()), text.slice(hit + sep->size(), text.size())},
                 true);
}

// The part of `text` that the optional start and end of find, count, startswith, ... select, as
// byte offsets.
Result<std::pair<size_t, size_t>> window(const Text& text, const Value* start, const Value* end) {
  const int64_t n = int64_t(count_code_points(text.view()));
  std::optional<int64_t> from, to;
  if (start != nullptr && !start->is_none()) {
    PONDER_TRY(from, to_int(*start, "start"));
  }
  if (end != nullptr && !end->is_none()) {
    PONDER_TRY(to, to_int(*end, "end"));
  }
  const auto place = [&](int64_t i) {
    return byte_offset(text.view(), size_t(std::clamp<int64_t>(i < 0 ? i + n : i, 0, n)));
  };
  const size_t begin = from ? place(*from) : 0;
  return std::pair(begin, std::max(begin, to ? place(*to) : text.size()));
}

Result<Value> find(const Text& text, const CallArgs& args, std::string_view name) {
  PONDER_TRY(const Bound a, bind(args, {"sub", "start", "end"}));
  PONDER_TRY(const Text* sub, required_text(a[0], "what to find"));
  PONDER_TRY(const auto range, window(text, a[1], a[2]));
  const std::string_view all = text.view().substr(0, range.second);
  size_t hit;
  if (name == "find" || name == "index") {
    hit = all.find(sub->view(), range.first);
  } else {
    hit = all.rfind(sub->view());
    if (hit != all.npos && hit < range.first) hit = all.npos;
  }
  if (hit == all.npos) {
    if (name.ends_with("index")) return bad_argument("substring not found");
    return Value(int64_t(-1));
  }
  return Value(int64_t(count_code_points(all.substr(0, hit))));
}

Result<Value> count(const Text& text, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"sub", "start", "end"}));
  PONDER_TRY(const Text* sub, required_text(a[0], "what to count"));
  PONDER_TRY(const auto range, window(text, a[1], a[2]));
  const std::string_view all = text.view().substr(range.first, range.second - range.first);
  if (sub->empty()) return Value(int64_t(count_code_points(all)) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = all.find(sub->view(), at)) != all.npos; at += sub->size()) ++n;
  return Value(n);
}

Result<Value> begins_or_ends(const Text& text, const CallArgs& args, bool begins) {
  PONDER_TRY(const Bound a, bind(args, {"prefix", "start", "end"}));
  PONDER_TRY(const auto range, window(text, a[1], a[2]));
  const std::string_view all = text.view().substr(range.first, range.second - range.first);
  std::vector<Value> options;
  if (a[0] != nullptr && a[0]->is_list() && a[0]->as_list().is_tuple) {
    options = a[0]->as_list().items;
  } else if (a[0] != nullptr) {
    options.push_back(*a[0]);
  } else {
    return bad_argument("a string is missing");
  }
  for (const Value& option : options) {
    PONDER_TRY(const Text* fix, required_text(&option, begins ? "startswith's argument" : "endswith's argument"));
    if (begins ? all.starts_with(fix->view()) : all.ends_with(fix->view())) return Value(true);
  }
  return Value(false);
}

// isdigit and its like: true when there are characters and all of them are of the kind.
Value all_are(const Text& text, bool (*kind)(char32_t)) {
  const std::string_view all = text.view();
  for (size_t i = 0; i < all.size();) {
    const utf8::Decoded d = utf8::decode(all.substr(i));
    if (!kind(d.code_point)) return false;
    i += d.length;
  }
  return !all.empty();
}

// isupper, islower: at least one cased character and none of the other case.
Value case_is(const Text& text, bool upper) {
  const std::string_view all = text.view();
  bool any = false;
  for (size_t i = 0; i < all.size();) {
    const utf8::Decoded d = utf8::decode(all.substr(i));
    if (upper ? is_lower(d.code_point) : is_upper(d.code_point)) return false;
    any = any || (upper ? is_upper(d.code_point) : is_lower(d.code_point));
    i += d.length;
  }
  return any;
}

Result<Value> string_method(Context& context, const Text& text, std::string_view name, const CallArgs& args) {
  PONDER_CHECK_OK(context.charge_steps(text.size() / 256));
  if (name == "split") return split(context, text, args, false);
  if (name == "rsplit") return split(context, text, args, true);
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    PONDER_TRY(const Bound a, bind(args, {"chars"}));
    PONDER_TRY(const Text* characters, text_argument(a[0], "strip's characters"));
    return context.make(strip(text,
                              name == "strip"    ? Side::both
                              : name == "lstrip" ? Side::left
                                                 : Side::right,
                              characters));
  }
  if (name == "startswith") return begins_or_ends(text, args, true);
  if (name == "endswith") return begins_or_ends(text, args, false);
  if (name == "replace") {
    PONDER_TRY(const Bound a, bind(args, {"old", "new", "count"}));
    PONDER_TRY(const Text* from, required_text(a[0], "replace's first argument"));
    PONDER_TRY(const Text* to, required_text(a[1], "replace's second argument"));
    int64_t n = -1;
    if (a[2] != nullptr) {
      PONDER_TRY(n, to_int(*a[2], "count"));
    }
    return replace(context, text, *from, *to, n);
  }
  if (name == "format") return brace_format(context, text, args);
  if (name == "join") {
    PONDER_TRY(const Bound a, bind(args, {"iterable"}));
    if (a[0] == nullptr) return bad_argument("join needs a list");
    PONDER_TRY(const Value::Lists items, context.iterate(*a[0]));
    for (const Value& item : items->items) {
      if (!item.is_string()) return bad_argument("join: expected strings, found " + std::string(item.type_name()));
    }
    return join(context, text, items->items);
  }
  if (name == "find" || name == "index" || name == "rfind" || name == "rindex") return find(text, args, name);
  if (name == "count") return count(text, args);
  if (name == "partition") return partition(context, text, args, false);
  if (name == "rpartition") return partition(context, text, args, true);
  if (name == "removeprefix" || name == "removesuffix") {
    PONDER_TRY(const Bound a, bind(args, {"affix"}));
    PONDER_TRY(const Text* affix, required_text(a[0], "the argument"));
    if (affix->empty()) return context.make(text);
    if (name == "removeprefix")
      return context.make(text.view().starts_with(affix->view()) ? text.slice(affix->size(), text.size()) : text);
    return context.make(text.view().ends_with(affix->view()) ? text.slice(0, text.size() - affix->size()) : text);
  }
  if (name == "ljust" || name == "rjust" || name == "center" || name == "zfill") {
    PONDER_TRY(const Bound a, bind(args, {"width", "fillchar"}));
    if (a[0] == nullptr) return bad_argument("a width is missing");
    PONDER_TRY(const int64_t width, to_int(*a[0], "the width"));
    PONDER_TRY(const Text* given, text_argument(a[1], "the fill character"));
    const Text fill = given != nullptr ? *given : Text(name == "zfill" ? "0" : " ", Origin::template_text);
    if (count_code_points(fill.view()) != 1) return bad_argument("the fill must be one character");
    if (name == "zfill" && !text.empty() && (text.view()[0] == '-' || text.view()[0] == '+')) {
      PONDER_TRY(const Value rest, pad(context, text.slice(1, text.size()), width - 1, Side::right, fill));
      Text out = text.slice(0, 1);
      out.append(rest.as_text());
      return context.make(std::move(out));
    }
    return pad(context, text, width, name == "ljust" ? Side::left : name == "center" ? Side::both : Side::right, fill);
  }
  if (name == "splitlines") {
    PONDER_TRY(const Bound a, bind(args, {"keepends"}));
    PONDER_CHECK_OK(context.charge_bytes(text.size() * 8));
    return list_of(context, split_lines(text, a[0] != nullptr && truthy(*a[0])));
  }
  PONDER_CHECK_OK(bind(args, {}));
  if (name == "upper") return context.make(change_case(text, Case::upper));
  if (name == "lower" || name == "casefold") return context.make(change_case(text, Case::lower));
  if (name == "title") return context.make(change_case(text, Case::title));
  if (name == "capitalize") return context.make(change_case(text, Case::capitalize));
  if (name == "swapcase") return context.make(change_case(text, Case::swap));
  if (name == "isspace") return all_are(text, is_space);
  if (name == "isdigit" || name == "isdecimal" || name == "isnumeric") return all_are(text, is_digit);
  if (name == "isalpha") return all_are(text, is_alpha);
  if (name == "isalnum") return all_are(text, [](char32_t c) { return is_alpha(c) || is_digit(c); });
  if (name == "isupper") return case_is(text, true);
  if (name == "islower") return case_is(text, false);
  return Error{ErrorCode::unsupported, "the string method '" + std::string(name) + "' is not supported"};
}

Result<Value> dict_method(Context& context, const Dict& dict, const Value& self, std::string_view name,
                          const CallArgs& args) {
  if (name == "get") {
    PONDER_TRY(const Bound a, bind(args, {"key", "default"}));
    if (a[0] == nullptr) return bad_argument("get needs a key");
    const Value* found = dict.find(*a[0]);
    if (found != nullptr) return *found;
    return a[1] != nullptr ? *a[1] : Value(None{});
  }
  PONDER_CHECK_OK(bind(args, {}));
  if (name == "copy") return self;
  PONDER_CHECK_OK(context.charge_bytes(dict.entries.size() * sizeof(Value)));
  List list;
  for (const Dict::Entry& e : dict.entries) {
    if (name == "items") {
      List pair;
      pair.is_tuple = true;
      pair.items = {e.key, e.value};
      PONDER_TRY(Value item, context.make(std::move(pair)));
      list.items.push_back(std::move(item));
    } else {
      list.items.push_back(name == "keys" ? e.key : e.value);
    }
  }
  return context.make(std::move(list));
}

Result<Value> list_method(Context& context, const List& list, const Value& self, std::string_view name,
                          const CallArgs& args) {
  if (name == "copy") return self;
  PONDER_TRY(const Bound a, bind(args, {"value"}));
  if (a[0] == nullptr) return bad_argument(std::string(name) + " needs a value");
  int64_t n = 0;
  for (size_t i = 0; i < list.items.size(); ++i) {
    PONDER_CHECK_OK(context.charge_steps(1 + weight_of(list.items[i]) / 64));
    if (!equal(list.items[i], *a[0])) continue;
    if (name == "index") return Value(int64_t(i));
    ++n;
  }
  if (name == "index") return bad_argument("the value is not in the list");
  return Value(n);
}

constexpr std::string_view kStringMethods[] = {
    "capitalize",   "casefold",   "center",    "count",       "encode",    "endswith",     "expandtabs",   "find",
    "format",       "format_map", "index",     "isalnum",     "isalpha",   "isascii",      "isdecimal",    "isdigit",
    "isidentifier", "islower",    "isnumeric", "isprintable", "isspace",   "istitle",      "isupper",      "join",
    "ljust",        "lower",      "lstrip",    "maketrans",   "partition", "removeprefix", "removesuffix", "replace",
    "rfind",        "rindex",     "rjust",     "rpartition",  "rsplit",    "rstrip",       "split",        "splitlines",
    "startswith",   "strip",      "swapcase",  "title",       "translate", "upper",        "zfill"};
constexpr std::string_view kDictMethods[] = {"copy", "get", "items", "keys", "values"};
constexpr std::string_view kDictRefused[] = {"clear", "pop", "popitem", "setdefault", "update", "fromkeys"};
constexpr std::string_view kListMethods[] = {"copy", "count", "index"};
constexpr std::string_view kListRefused[] = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};

template <size_t N>
bool among(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

bool has_method(const Value& v, std::string_view name) {
  if (v.is_string()) return among(kStringMethods, name);
  if (v.is_dict()) return among(kDictMethods, name) || among(kDictRefused, name);
  if (v.is_list()) return among(kListMethods, name) || (!v.as_list().is_tuple && among(kListRefused, name));
  return false;
}

Result<Value> call_method(Context& context, const Value& v, std::string_view name, const CallArgs& args) {
  const auto named = [&](Result<Value> r) -> Result<Value> {
    if (r.ok() || r.error().code == ErrorCode::out_of_range) return r;
    return r.error().with_context("." + std::string(name) + "()");
  };
  if (v.is_string()) return named(string_method(context, v.as_text(), name, args));
  if (v.is_dict() && among(kDictMethods, name)) return named(dict_method(context, v.as_dict(), v, name, args));
  if (v.is_list() && among(kListMethods, name)) return named(list_method(context, v.as_list(), v, name, args));
  return Error{ErrorCode::unsupported, "." + std::string(name) + "() would change a " + std::string(v.type_name()) +
                                           " in place, which templates may not do"};
}

}  // namespace ponder::chat::jinja
