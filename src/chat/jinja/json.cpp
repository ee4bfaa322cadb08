// JSON in and out, as Python's json module writes it (json.dumps with transformers' arguments).
// Punctuation is the template's; the characters of strings keep their writer.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "chat/jinja/context.h"
#include "chat/jinja/json_value.h"

namespace ponder::chat::jinja {
namespace {

void append_hex(std::string& out, uint32_t unit) {
  out += "\\u";
  for (int k = 3; k >= 0; --k) out += "0123456789abcdef"[(unit >> (4 * k)) & 15];
}

std::string float_text(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d < 0 ? "-Infinity" : "Infinity";
  return format_float(d);
}

class Writer {
 public:
  Writer(Context& context, const JsonStyle& style) : style_(style), out_(context) {}

  Result<void> write(const Value& v, int level) {
    if (v.is_none()) return plain("null");
    if (v.is_bool()) return plain(v.as_bool() ? "true" : "false");
    if (v.is_int()) return plain(std::to_string(v.as_int()));
    if (v.is_float()) return plain(float_text(v.as_double()));
    if (v.is_string()) return string(v.as_text());
    if (v.is_list()) return list(v.as_list(), level);
    if (v.is_dict()) return dict(v.as_dict(), level);
    if (v.is_undefined()) return bad_argument("tojson: " + v.undefined_message());
    return bad_argument("tojson: a " + std::string(v.type_name()) + " cannot be written as JSON");
  }

  Value take() { return out_.take(); }

 private:
  Result<void> plain(std::string_view text) { return out_.append(text, Origin::template_text); }

  Result<void> new_line(int level) {
    if (!style_.has_indent) return {};
    PONDER_CHECK_OK(plain("\n"));
    for (int i = 0; i < level; ++i) PONDER_CHECK_OK(plain(style_.indent));
    return {};
  }

  Result<void> string(const Text& text) {
    PONDER_CHECK_OK(plain("\""));
    const std::string_view all = text.view();
    size_t start = 0;  // of a run that needs no escape
    for (size_t i = 0; i < all.size();) {
      const uint8_t b = uint8_t(all[i]);
      if (b >= 0x20 && b != '"' && b != '\\' && !(style_.ensure_ascii && b >= 0x7F)) {
        ++i;
        continue;
      }
      PONDER_CHECK_OK(out_.append(text, start, i));
      const utf8::Decoded d = utf8::decode(all.substr(i));
      std::string escape;
      static constexpr std::string_view kFrom = "\"\\\n\r\t\b\f", kTo = "\"\\nrtbf";
      if (const size_t k = kFrom.find(char(b)); b < 0x80 && k != kFrom.npos) {
        escape = {'\\', kTo[k]};
      } else if (d.code_point >= 0x10000) {
        append_hex(escape, 0xD800 + ((d.code_point - 0x10000) >> 10));
        append_hex(escape, 0xDC00 + ((d.code_point - 0x10000) & 0x3FF));
      } else {
        append_hex(escape, d.code_point);
      }
      PONDER_CHECK_OK(out_.append(escape, text.origin_at(i)));
      i += d.length;
      start = i;
    }
    PONDER_CHECK_OK(out_.append(text, start, all.size()));
    return plain("\"");
  }

  Result<void> list(const List& list, int level) {
    if (list.items.empty()) return plain("[]");
    PONDER_CHECK_OK(plain("["));
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) PONDER_CHECK_OK(plain(style_.item_separator));
      PONDER_CHECK_OK(new_line(level + 1));
      PONDER_CHECK_OK(write(list.items[i], level + 1));
    }
    PONDER_CHECK_OK(new_line(level));
    return plain("]");
  }

  Result<void> dict(const Dict& dict, int level) {
    if (dict.entries.empty()) return plain("{}");
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& e : dict.entries) entries.push_back(&e);
    if (style_.sort_keys) {
      Result<void> order;
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        const Result<bool> r = less(a->key, b->key);
        if (!r) order = r.error();
        return r.ok() && *r;
      });
      PONDER_CHECK_OK(order);
    }
    PONDER_CHECK_OK(plain("{"));
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) PONDER_CHECK_OK(plain(style_.item_separator));
      PONDER_CHECK_OK(new_line(level + 1));
      const Value& key = entries[i]->key;
      if (key.is_string()) {
        PONDER_CHECK_OK(string(key.as_text()));
      } else if (key.is_list()) {
        return bad_argument("tojson: a dict's key must be a string or a number");
      } else {
        PONDER_CHECK_OK(plain("\""));
        PONDER_CHECK_OK(write(key, level));
        PONDER_CHECK_OK(plain("\""));
      }
      PONDER_CHECK_OK(plain(style_.key_separator));
      PONDER_CHECK_OK(write(entries[i]->value, level + 1));
    }
    PONDER_CHECK_OK(new_line(level));
    return plain("}");
  }

  const JsonStyle& style_;
  TextBuilder out_;
};

}  // namespace

template <class Json>
Result<Value> value_of(const Json& j, Origin origin, int depth) {
  if (depth > kMaxNesting / 2) return bad_argument("the JSON is nested too deep");
  switch (j.type()) {
    case Json::value_t::boolean:
      return Value(j.template get<bool>());
    case Json::value_t::number_integer:
      return Value(j.template get<int64_t>());
    case Json::value_t::number_unsigned: {
      const uint64_t u = j.template get<uint64_t>();
      return u <= uint64_t(INT64_MAX) ? Value(int64_t(u)) : Value(double(u));
    }
    case Json::value_t::number_float:
      return Value(j.template get<double>());
    case Json::value_t::string:
      return Value(Text(utf8::sanitize(j.template get_ref<const std::string&>()), origin));
    case Json::value_t::array: {
      List list;
      for (const Json& item : j) {
        PONDER_TRY(Value v, value_of(item, origin, depth + 1));
        list.items.push_back(std::move(v));
      }
      return Value(std::move(list));
    }
    case Json::value_t::object: {
      Dict dict;
      for (auto it = j.begin(); it != j.end(); ++it) {
        PONDER_TRY(Value v, value_of(it.value(), origin, depth + 1));
        dict.put(utf8::sanitize(it.key()), std::move(v), origin);
      }
      return Value(std::move(dict));
    }
    default:
      return Value(None{});
  }
}

template Result<Value> value_of(const nlohmann::json&, Origin, int);
template Result<Value> value_of(const nlohmann::ordered_json&, Origin, int);

Result<Value> from_json(std::string_view json, Origin origin) {
  const auto parsed = nlohmann::ordered_json::parse(json, nullptr, false);
  if (parsed.is_discarded()) return bad_argument("not valid JSON");
  return value_of(parsed, origin, 0);
}

Result<Value> to_json(Context& context, const Value& value, const JsonStyle& style) {
  Writer writer(context, style);
  PONDER_CHECK_OK(writer.write(value, 0));
  return writer.take();
}

}  // namespace ponder::chat::jinja
