// Filters on single values, JSON among them, and the search over all tables of filters.
#include <charconv>
#include <cmath>

#include "chat/jinja/filters.h"
#include "chat/jinja/strings.h"

namespace ponder::chat::jinja {
namespace {

Result<Value> default_filter(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"default_value", "boolean"}));
  if (!v.is_undefined() && !(flag(a[1]) && !truthy(v))) return v;
  return a[0] != nullptr ? *a[0] : Value::literal("");
}

// Python's int(text, base) and float(text): white space around and "_" between digits are allowed.
std::optional<std::string> cleaned(const Value& v) {
  const Text text = strip(v.as_text(), Side::both);
  std::string out;
  const std::string_view s = text.view();
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') {
      out += s[i];
    } else if (i == 0 || i + 1 == s.size() || !std::isalnum(uint8_t(s[i - 1])) || !std::isalnum(uint8_t(s[i + 1]))) {
      return std::nullopt;
    }
  }
  if (out.size() > 1 && out[0] == '+' && out[1] != '-' && out[1] != '+') out.erase(0, 1);
  return out;
}

std::optional<double> parse_float(const Value& v) {
  const auto s = cleaned(v);
  if (!s || s->empty()) return std::nullopt;
  double d = 0;
  const auto r = std::from_chars(s->data(), s->data() + s->size(), d);
  if (r.ptr != s->data() + s->size()) return std::nullopt;
  if (r.ec == std::errc::result_out_of_range) return s->find("e-") != s->npos ? 0.0 : HUGE_VAL;
  return r.ec == std::errc() ? std::optional(d) : std::nullopt;
}

Result<Value> int_filter(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"default", "base"}));
  PONDER_TRY(const int64_t base, int_or(a[1], 10, "base"));
  const Value otherwise = a[0] != nullptr ? *a[0] : Value(int64_t(0));
  if (v.is_undefined()) return bad_argument(v.undefined_message());
  if (v.is_integral()) return Value(v.as_int());
  if (base < 2 || base > 36) return bad_argument("the base must lie between 2 and 36");
  std::optional<double> d;
  if (v.is_float()) d = v.as_double();
  if (v.is_string()) {
    if (auto s = cleaned(v); s && !s->empty()) {
      const bool negative = (*s)[0] == '-';
      const size_t sign = negative ? 1 : 0;
      const char prefix = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
      if (prefix != '\0' && s->size() > sign + 2 && (*s)[sign] == '0' && ((*s)[sign + 1] | 0x20) == prefix)
        s->erase(sign, 2);
      int64_t i = 0;
      const auto r = std::from_chars(s->data(), s->data() + s->size(), i, int(base));
      if (r.ec == std::errc() && r.ptr == s->data() + s->size()) return Value(i);
      if (r.ec == std::errc::result_out_of_range) return bad_argument("an integer does not fit 64 bits");
    }
    d = parse_float(v);
  }
  if (!d || std::isnan(*d) || std::isinf(*d)) return otherwise;
  if (std::fabs(*d) >= 0x1p63) return bad_argument("an integer does not fit 64 bits");
  return Value(int64_t(*d));
}

Result<Value> float_filter(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"default"}));
  if (v.is_undefined()) return bad_argument(v.undefined_message());
  if (v.is_number()) return Value(v.as_double());
  if (v.is_string()) {
    if (const auto d = parse_float(v)) return Value(*d);
  }
  return a[0] != nullptr ? *a[0] : Value(0.0);
}

Result<Value> abs_filter(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (v.is_float()) return Value(std::fabs(v.as_double()));
  PONDER_TRY(const int64_t i, to_int(v, "abs"));
  return i < 0 ? arithmetic(context, '-', int64_t(0), Value(i)) : Value(i);
}

Result<Value> round_filter(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"precision", "method"}));
  PONDER_TRY(const int64_t precision, int_or(a[0], 0, "precision"));
  const std::string method = a[1] != nullptr ? to_text(*a[1]).bytes() : "common";
  if (!v.is_number()) return bad_argument("needs a number, not a " + std::string(v.type_name()));
  if (precision < -300 || precision > 300) return bad_argument("the precision is out of range");
  const double d = v.as_double(), scale = std::pow(10.0, double(precision));
  if (method == "ceil") return Value(std::ceil(d * scale) / scale);
  if (method == "floor") return Value(std::floor(d * scale) / scale);
  if (method != "common") return bad_argument("the method must be common, ceil or floor");
  if (v.is_integral() && precision >= 0) return v;
  if (precision < 0) {
    const double r = std::nearbyint(d * scale) / scale;
    return v.is_integral() ? Value(int64_t(r)) : Value(r);
  }
  char buffer[700];  // Python rounds the exact decimal value, half to even
  const auto r = std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::fixed, int(precision));
  double rounded = d;
  if (r.ec == std::errc()) std::from_chars(buffer, r.ptr, rounded);
  return Value(rounded);
}

Result<Value> attr(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"name"}));
  if (a[0] == nullptr || !a[0]->is_string()) return bad_argument("needs an attribute's name");
  if (v.is_dict()) {  // attributes only, never keys
    if (has_method(v, a[0]->as_view())) return context.attribute(v, a[0]->as_view());
    return Value::undefined("a dict has no attribute '" + std::string(a[0]->as_view()) + "'");
  }
  return context.attribute(v, a[0]->as_view());
}

Result<Value> tojson(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = flag(a[0]);
  style.sort_keys = flag(a[3]);
  if (a[1] != nullptr && !a[1]->is_none()) {
    style.has_indent = true;
    style.item_separator = ",";
    if (a[1]->is_string()) {
      style.indent = a[1]->as_view();
    } else {
      PONDER_TRY(const int64_t width, to_int(*a[1], "indent"));
      if (width > 1000) return bad_argument("the indent is too wide");
      style.indent = std::string(size_t(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (a[2] != nullptr && !a[2]->is_none()) {
    if (!a[2]->is_list() || a[2]->as_list().items.size() != 2) return bad_argument("separators must be two strings");
    style.item_separator = to_text(a[2]->as_list().items[0]).bytes();
    style.key_separator = to_text(a[2]->as_list().items[1]).bytes();
  }
  return to_json(context, v, style);
}

// Not in Jinja2; some published templates use it, and the programs they were written for have it.
Result<Value> from_json_filter(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (!v.is_string()) return bad_argument("needs a string, not a " + std::string(v.type_name()));
  const Text& text = v.as_text();
  PONDER_CHECK_OK(context.charge_bytes(text.size() * 16));
  // Inner strings are the user's as soon as any of the text is.
  const auto segments = text.segments();
  const bool all_template = segments.empty() || (segments.size() == 1 && segments[0].from_template);
  return from_json(text.view(), all_template ? Origin::template_text : Origin::user);
}

constexpr FilterEntry kFilters[] = {{"default", default_filter},
                                    {"d", default_filter},
                                    {"int", int_filter},
                                    {"float", float_filter},
                                    {"abs", abs_filter},
                                    {"round", round_filter},
                                    {"attr", attr},
                                    {"tojson", tojson},
                                    {"from_json", from_json_filter},
                                    {"fromjson", from_json_filter}};

}  // namespace

std::span<const FilterEntry> value_filters() { return kFilters; }

Filter find_filter(std::string_view name) {
  for (const auto table : {value_filters(), text_filters(), sequence_filters()}) {
    for (const FilterEntry& entry : table) {
      if (entry.name == name) return entry.filter;
    }
  }
  return nullptr;
}

Result<int64_t> int_or(const Value* value, int64_t otherwise, std::string_view what) {
  if (value == nullptr || value->is_none()) return otherwise;
  return to_int(*value, what);
}

bool flag(const Value* value) { return value != nullptr && truthy(*value); }

Result<Value> lookup_path(Context& context, Value subject, const Value& path, const Value* otherwise) {
  std::vector<Value> parts;
  if (path.is_string()) {
    const std::string_view all = path.as_view();
    for (size_t start = 0; start <= all.size();) {
      const size_t dot = std::min(all.find('.', start), all.size());
      const std::string part(all.substr(start, dot - start));
      int64_t index = 0;
      const auto r = std::from_chars(part.data(), part.data() + part.size(), index);
      const bool number = !part.empty() && part[0] != '-' && r.ec == std::errc() && r.ptr == part.data() + part.size();
      parts.push_back(number ? Value(index) : Value::literal(part));
      start = dot + 1;
    }
  } else {
    parts.push_back(path);
  }
  for (const Value& part : parts) {
    PONDER_CHECK_OK(context.charge_steps(1));
    PONDER_TRY(subject, context.item(subject, part));
    if (subject.is_undefined() && otherwise != nullptr && !otherwise->is_none()) subject = *otherwise;
  }
  return subject;
}

}  // namespace ponder::chat::jinja
