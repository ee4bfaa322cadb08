// Python's truth, equality, order, str() and repr() for the values of a template. Recursion here is
// bounded by the nesting of containers (kMaxNesting), which whoever builds a container checks.
#include "chat/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/object.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

// Equal keys have equal strings here: 1, 1.0 and True are one key, as in Python.
bool canonical_key(const Value& key, std::string& out) {
  if (key.is_string()) {
    out += 's';
    out += key.as_view();
    return true;
  }
  if (key.is_integral()) {
    out += 'i' + std::to_string(key.as_int());
    return true;
  }
  if (key.is_float()) {
    const double d = key.as_double();
    if (d == std::floor(d) && std::fabs(d) < 0x1p62) {
      out += 'i' + std::to_string(int64_t(d));
    } else {
      out += 'f' + format_float(d);
    }
    return true;
  }
  if (key.is_none()) {
    out += 'n';
    return true;
  }
  if (key.is_list() && key.as_list().is_tuple) {
    out += 't';
    for (const Value& item : key.as_list().items) {
      std::string part;
      if (!canonical_key(item, part)) return false;
      out += std::to_string(part.size()) + ':' + part;
    }
    return true;
  }
  return false;
}

Text quoted(const Text& text) {
  const std::string_view all = text.view();
  const bool doubled = all.find('\'') != all.npos && all.find('"') == all.npos;
  const char quote = doubled ? '"' : '\'';
  Text out;
  out.append(std::string_view(&quote, 1), Origin::template_text);
  for (size_t i = 0; i < all.size();) {
    const utf8::Decoded d = utf8::decode(all.substr(i));
    const char32_t c = d.code_point;
    std::string one;
    if (c == char32_t(quote) || c == '\\') {
      one = {'\\', char(c)};
    } else if (c == '\n') {
      one = "\\n";
    } else if (c == '\r') {
      one = "\\r";
    } else if (c == '\t') {
      one = "\\t";
    } else if (is_printable(c)) {
      one = std::string(all.substr(i, d.length));
    } else {
      const int digits = c < 0x100 ? 2 : c < 0x10000 ? 4 : 8;
      one = digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      for (int k = digits - 1; k >= 0; --k) one += "0123456789abcdef"[(c >> (4 * k)) & 15];
    }
    out.append(one, text.origin_at(i));
    i += d.length;
  }
  out.append(std::string_view(&quote, 1), Origin::template_text);
  return out;
}

void append_repr(Text& out, const Value& value);

void append_plain(Text& out, std::string_view text) { out.append(text, Origin::template_text); }

void append_repr(Text& out, const Value& value) {
  if (value.is_string()) {
    out.append(quoted(value.as_text()));
  } else if (value.is_list()) {
    const List& list = value.as_list();
    append_plain(out, list.is_tuple ? "(" : "[");
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) append_plain(out, ", ");
      append_repr(out, list.items[i]);
    }
    append_plain(out, list.is_tuple ? list.items.size() == 1 ? ",)" : ")" : "]");
  } else if (value.is_dict()) {
    append_plain(out, "{");
    bool first = true;
    for (const Dict::Entry& e : value.as_dict().entries) {
      if (!first) append_plain(out, ", ");
      first = false;
      append_repr(out, e.key);
      append_plain(out, ": ");
      append_repr(out, e.value);
    }
    append_plain(out, "}");
  } else if (value.is_undefined()) {
    append_plain(out, "Undefined");
  } else {
    out.append(to_text(value));
  }
}

// -1, 0, 1 of an int and a float, exactly.
int compare_numbers(const Value& a, const Value& b, bool& unordered) {
  if (a.is_integral() && b.is_integral()) {
    return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int() ? 1 : 0;
  }
  const double x = a.as_double(), y = b.as_double();
  if (std::isnan(x) || std::isnan(y)) {
    unordered = true;
    return 1;
  }
  if (a.is_float() && b.is_float()) return x < y ? -1 : x > y ? 1 : 0;
  const int64_t i = a.is_float() ? b.as_int() : a.as_int();
  const double f = a.is_float() ? x : y;
  int c;  // sign of i - f
  if (f >= 0x1p63) {
    c = -1;
  } else if (f < -0x1p63) {
    c = 1;
  } else {
    const int64_t whole = int64_t(std::floor(f));
    c = i < whole ? -1 : i > whole ? 1 : f > std::floor(f) ? -1 : 0;
  }
  return a.is_float() ? -c : c;
}

uint64_t saturating_add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

}  // namespace

Value::Value(List list) {
  for (const Value& v : list.items) {
    list.depth = std::max(list.depth, depth_of(v) + 1);
    list.weight = saturating_add(list.weight, weight_of(v));
  }
  v_ = std::make_shared<const List>(std::move(list));
}

Value::Value(Dict dict) {
  for (const Dict::Entry& e : dict.entries) {
    dict.depth = std::max({dict.depth, depth_of(e.value) + 1, depth_of(e.key) + 1});
    dict.weight = saturating_add(dict.weight, saturating_add(weight_of(e.key), weight_of(e.value)));
  }
  v_ = std::make_shared<const Dict>(std::move(dict));
}

const void* Value::identity() const {
  if (is_string()) return std::get<Strings>(v_).get();
  if (is_list()) return std::get<Lists>(v_).get();
  if (is_dict()) return std::get<Dicts>(v_).get();
  if (is_object()) return as_object();
  return nullptr;
}

std::string Value::undefined_message() const {
  if (const auto* u = std::get_if<Undefined>(&v_); u != nullptr && u->what != nullptr) return *u->what;
  return "the value is undefined";
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_list()) return as_list().is_tuple ? "tuple" : "list";
  if (is_dict()) return "dict";
  return as_object()->type_name();
}

int depth_of(const Value& value) {
  if (value.is_list()) return value.as_list().depth;
  if (value.is_dict()) return value.as_dict().depth;
  return 0;
}

uint64_t weight_of(const Value& value) {
  if (value.is_list()) return value.as_list().weight;
  if (value.is_dict()) return value.as_dict().weight;
  return value.is_string() ? value.as_text().size() + 1 : 1;
}

bool Dict::set(const Value& key, Value value) {
  std::string canonical;
  if (!canonical_key(key, canonical)) return false;
  const auto [it, added] = index_.try_emplace(std::move(canonical), entries.size());
  if (added) {
    entries.push_back({key, std::move(value)});
  } else {
    entries[it->second].value = std::move(value);
  }
  return true;
}

void Dict::put(std::string key, Value value, Origin origin) {
  set(Value(Text(std::move(key), origin)), std::move(value));
}

const Value* Dict::find(const Value& key) const {
  std::string canonical;
  if (!canonical_key(key, canonical)) return nullptr;
  const auto it = index_.find(canonical);
  return it == index_.end() ? nullptr : &entries[it->second].value;
}

const Value* Dict::find(std::string_view key) const {
  std::string canonical = "s";
  canonical += key;
  const auto it = index_.find(canonical);
  return it == index_.end() ? nullptr : &entries[it->second].value;
}

bool truthy(const Value& v) {
  if (v.is_undefined() || v.is_none()) return false;
  if (v.is_integral()) return v.as_int() != 0;
  if (v.is_float()) return v.as_double() != 0;
  if (v.is_string()) return !v.as_text().empty();
  if (v.is_list()) return !v.as_list().items.empty();
  if (v.is_dict()) return !v.as_dict().entries.empty();
  return true;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    bool unordered = false;
    return compare_numbers(a, b, unordered) == 0 && !unordered;
  }
  if (a.is_string() && b.is_string()) return a.as_view() == b.as_view();
  if (a.is_none() && b.is_none()) return true;
  if (a.is_undefined() && b.is_undefined()) return true;
  if (a.is_list() && b.is_list()) {
    const List &x = a.as_list(), &y = b.as_list();
    if (x.is_tuple != y.is_tuple || x.items.size() != y.items.size()) return false;
    for (size_t i = 0; i < x.items.size(); ++i) {
      if (!equal(x.items[i], y.items[i])) return false;
    }
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    const Dict &x = a.as_dict(), &y = b.as_dict();
    if (x.entries.size() != y.entries.size()) return false;
    for (const Dict::Entry& e : x.entries) {
      const Value* other = y.find(e.key);
      if (other == nullptr || !equal(e.value, *other)) return false;
    }
    return true;
  }
  return a.is_object() && b.is_object() && a.as_object() == b.as_object();
}

Result<bool> less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    bool unordered = false;
    return compare_numbers(a, b, unordered) < 0 && !unordered;
  }
  // Byte order of UTF-8 is the order of its code points.
  if (a.is_string() && b.is_string()) return a.as_view() < b.as_view();
  if (a.is_list() && b.is_list() && a.as_list().is_tuple == b.as_list().is_tuple) {
    const auto &x = a.as_list().items, &y = b.as_list().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  if (a.is_undefined()) return Error{ErrorCode::invalid_argument, a.undefined_message()};
  if (b.is_undefined()) return Error{ErrorCode::invalid_argument, b.undefined_message()};
  return Error{ErrorCode::invalid_argument, "values of type " + std::string(a.type_name()) + " and " +
                                                std::string(b.type_name()) + " have no order"};
}

std::string format_float(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, d, std::chars_format::scientific).ptr;
  const std::string s(buffer, end);  // -d.ddde[+-]xx, the shortest digits that read back as d
  const size_t e = s.find('e');
  const int exponent = std::atoi(s.c_str() + e + 1);
  std::string sign = s[0] == '-' ? "-" : "", digits;
  for (size_t i = 0; i < e; ++i) {
    if (s[i] >= '0' && s[i] <= '9') digits += s[i];
  }
  if (exponent >= -4 && exponent < 16) {  // Python's repr writes these without an exponent
    if (exponent < 0) return sign + "0." + std::string(size_t(-exponent - 1), '0') + digits;
    if (digits.size() <= size_t(exponent) + 1) {
      return sign + digits + std::string(size_t(exponent) + 1 - digits.size(), '0') + ".0";
    }
    return sign + digits.substr(0, size_t(exponent) + 1) + "." + digits.substr(size_t(exponent) + 1);
  }
  std::string text = sign + digits.substr(0, 1);
  if (digits.size() > 1) text += "." + digits.substr(1);
  const int magnitude = std::abs(exponent);
  return text + (exponent < 0 ? "e-" : "e+") + (magnitude < 10 ? "0" : "") + std::to_string(magnitude);
}

Text to_text(const Value& v) {
  if (v.is_string()) return v.as_text();
  std::string plain;
  if (v.is_undefined()) return {};
  if (v.is_none()) {
    plain = "None";
  } else if (v.is_bool()) {
    plain = v.as_bool() ? "True" : "False";
  } else if (v.is_int()) {
    plain = std::to_string(v.as_int());
  } else if (v.is_float()) {
    plain = format_float(v.as_double());
  } else if (v.is_object()) {
    plain = "<" + std::string(v.as_object()->type_name()) + ">";
  } else {
    return repr(v);
  }
  return Text(std::move(plain), Origin::template_text);
}

Text repr(const Value& value) {
  Text out;
  append_repr(out, value);
  return out;
}

}  // namespace ponder::chat::jinja
