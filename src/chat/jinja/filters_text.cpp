// Filters that make strings of strings.
#include "base/utf8.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

Result<Value> changed(Context& context, const Value& v, const CallArgs& args, Case what) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Text text, text_of(context, v));
  return context.make(change_case(text, what));
}

Result<Value> upper(Context& c, const Value& v, const CallArgs& a) { return changed(c, v, a, Case::upper); }
Result<Value> lower(Context& c, const Value& v, const CallArgs& a) { return changed(c, v, a, Case::lower); }
Result<Value> capitalize(Context& c, const Value& v, const CallArgs& a) { return changed(c, v, a, Case::capitalize); }

// Unlike str.title(): only spaces, "-" and opening brackets begin a word.
Result<Value> title(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Text text, text_of(context, v));
  TextBuilder out(context);
  const std::string_view all = text.view();
  size_t start = 0;
  for (size_t i = 0; i <= all.size();) {
    const utf8::Decoded d = i < all.size() ? utf8::decode(all.substr(i)) : utf8::Decoded{' ', 1, true};
    const bool splits = is_space(d.code_point) ||
                        (d.code_point < 0x80 && std::string_view("-({[<").find(char(d.code_point)) != all.npos);
    if (splits) {
      PONDER_CHECK_OK(out.append(change_case(text.slice(start, i), Case::capitalize)));
      start = i + d.length;
      PONDER_CHECK_OK(out.append(text, i, std::min(start, all.size())));
    }
    i += d.length;
  }
  return out.take();
}

Result<Value> trim(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"chars"}));
  PONDER_TRY(const Text text, text_of(context, v));
  if (a[0] == nullptr || a[0]->is_none()) return context.make(strip(text, Side::both));
  PONDER_TRY(const Text characters, text_of(context, *a[0]));
  return context.make(strip(text, Side::both, &characters));
}

Result<Value> replace_filter(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"old", "new", "count"}));
  if (a[0] == nullptr || a[1] == nullptr) return bad_argument("needs the old and the new string");
  PONDER_TRY(const Text text, text_of(context, v));
  PONDER_TRY(const Text from, text_of(context, *a[0]));
  PONDER_TRY(const Text to, text_of(context, *a[1]));
  PONDER_TRY(const int64_t n, int_or(a[2], -1, "count"));
  return replace(context, text, from, to, n);
}

Result<Value> indent(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"width", "first", "blank"}));
  PONDER_TRY(Text text, text_of(context, v));
  TextBuilder indention(context), out(context);
  if (a[0] != nullptr && a[0]->is_string()) {
    PONDER_CHECK_OK(indention.append(a[0]->as_text()));
  } else {
    PONDER_TRY(const int64_t width, int_or(a[0], 4, "width"));
    PONDER_CHECK_OK(indention.repeat(Text(" ", Origin::template_text), uint64_t(std::max<int64_t>(width, 0))));
  }
  text.append("\n", Origin::template_text);
  const std::vector<Text> lines = split_lines(text);
  PONDER_CHECK_OK(context.charge_bytes(lines.size() * sizeof(Text)));
  const std::string_view all = text.view();
  size_t at = 0;  // of the line in the text, to find who wrote its newline
  for (size_t i = 0; i < lines.size(); ++i) {
    const bool indented = i == 0 ? flag(a[1]) : flag(a[2]) || !lines[i].empty();
    if (indented) PONDER_CHECK_OK(out.append(indention.text()));
    PONDER_CHECK_OK(out.append(lines[i]));
    at += lines[i].size();
    if (i + 1 < lines.size()) {
      PONDER_CHECK_OK(out.append("\n", text.origin_at(at)));
      const utf8::Decoded end = utf8::decode(all.substr(at));
      at += end.code_point == '\r' && at + 1 < all.size() && all[at + 1] == '\n' ? 2 : end.length;
    }
  }
  return out.take();
}

Result<Value> center(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"width"}));
  PONDER_TRY(const Text text, text_of(context, v));
  PONDER_TRY(const int64_t width, int_or(a[0], 80, "width"));
  return pad(context, text, width, Side::both, Text(" ", Origin::template_text));
}

Result<Value> escape(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Text text, text_of(context, v));
  TextBuilder out(context);
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.view()[i];
    const std::string_view named = c == '&'    ? "&amp;"
                                   : c == '<'  ? "&lt;"
                                   : c == '>'  ? "&gt;"
                                   : c == '\'' ? "&#39;"
                                   : c == '"'  ? "&#34;"
                                               : std::string_view();
    if (named.empty()) {
      PONDER_CHECK_OK(out.append(text, i, i + 1));
    } else {
      PONDER_CHECK_OK(out.append(named, text.origin_at(i)));
    }
  }
  return out.take();
}

Result<Value> string(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (v.is_string()) return v;
  return context.make(to_text(v));
}

Result<Value> format(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Text text, text_of(context, v));
  if (!args.named.empty()) {
    if (!args.positional.empty()) return bad_argument("takes positional or named values, not both");
    Dict dict;
    for (const auto& [name, value] : args.named) dict.put(name, value);
    PONDER_TRY(const Value values, context.make(std::move(dict)));
    return percent_format(context, text, values);
  }
  List list;
  list.is_tuple = true;
  list.items = args.positional;
  PONDER_TRY(const Value values, context.make(std::move(list)));
  return percent_format(context, text, values);
}

Result<Value> truncate(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"length", "killwords", "end", "leeway"}));
  PONDER_TRY(const Text text, text_of(context, v));
  PONDER_TRY(const int64_t length, int_or(a[0], 255, "length"));
  const Text end = a[2] != nullptr ? to_text(*a[2]) : Text("...", Origin::template_text);
  PONDER_TRY(const int64_t leeway, int_or(a[3], 5, "leeway"));
  const int64_t end_length = int64_t(count_code_points(end.view())), size = int64_t(count_code_points(text.view()));
  if (length < end_length || leeway < 0) return bad_argument("the length is shorter than the ending");
  if (size <= length || size - length <= leeway) return v;
  Text cut = text.slice(0, byte_offset(text.view(), size_t(length - end_length)));
  if (!flag(a[1])) {
    const size_t space = cut.view().rfind(' ');
    if (space != std::string_view::npos) cut = cut.slice(0, space);
  }
  cut.append(end);
  return context.make(std::move(cut));
}

Result<Value> wordcount(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Text text, text_of(context, v));
  int64_t n = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const utf8::Decoded d = utf8::decode(text.view().substr(i));
    const bool word = is_alpha(d.code_point) || is_digit(d.code_point) || d.code_point == '_';
    n += word && !inside;
    inside = word;
    i += d.length;
  }
  return Value(n);
}

constexpr FilterEntry kFilters[] = {{"upper", upper},        {"lower", lower},        {"capitalize", capitalize},
                                    {"title", title},        {"trim", trim},          {"replace", replace_filter},
                                    {"indent", indent},      {"center", center},      {"escape", escape},
                                    {"e", escape},           {"forceescape", escape}, {"string", string},
                                    {"safe", string},        {"format", format},      {"truncate", truncate},
                                    {"wordcount", wordcount}};

}  // namespace

std::span<const FilterEntry> text_filters() { return kFilters; }

}  // namespace ponder::chat::jinja
