// Python's two ways to format: "%s and %d" % values, and "{} and {name}".format(...), with the
// flags, widths and types that text needs (s r d i x X o f e g c %). Anything else is an error that
// says so.
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "chat/jinja/context.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

struct Spec {
  Text fill{" ", Origin::template_text};
  char align = 0;  // < > ^ =
  char sign = '-';
  bool alternate = false, grouping = false;
  int64_t width = 0, precision = -1;
  char type = 0;
};

constexpr int64_t kMaxPrecision = 300;

Result<std::string> number_text(const Value& v, const Spec& spec) {
  std::string digits;
  bool negative = false;
  const bool floating = v.is_float() || std::string_view("fFeEgG%").find(spec.type) != std::string_view::npos;
  if (!v.is_number())
    return bad_argument(std::string("format '") + spec.type + "' needs a number, not a " + std::string(v.type_name()));
  if (floating && spec.type != 'd' && spec.type != 'x' && spec.type != 'X' && spec.type != 'o') {
    double d = v.as_double();
    negative = std::signbit(d);
    d = std::fabs(d);
    if (spec.type == 0 && spec.precision < 0) {
      digits = format_float(d);
    } else {
      char buffer[700];
      const char type = spec.type == 0 ? 'g' : spec.type == '%' ? 'f' : spec.type;
      const std::string pattern = std::string("%.*") + type;
      const int precision = spec.precision < 0 ? 6 : int(spec.precision);
      std::snprintf(buffer, sizeof buffer, pattern.c_str(), precision, spec.type == '%' ? d * 100 : d);
      digits = buffer;
      if (spec.type == '%') digits += '%';
    }
  } else {
    if (v.is_float() && std::fabs(v.as_double()) >= 0x1p63) return bad_argument("an integer does not fit 64 bits");
    const int64_t i = v.is_float() ? int64_t(v.as_double()) : v.as_int();
    negative = i < 0;
    const uint64_t magnitude = negative ? uint64_t(0) - uint64_t(i) : uint64_t(i);
    char buffer[72];
    const int base = spec.type == 'x' || spec.type == 'X' ? 16 : spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 10;
    digits.assign(buffer, std::to_chars(buffer, buffer + sizeof buffer, magnitude, base).ptr);
    if (spec.alternate && base != 10) digits = std::string("0") + (base == 16 ? "x" : base == 8 ? "o" : "b") + digits;
    if (spec.type == 'X') {
      for (char& c : digits) c = char(std::toupper(uint8_t(c)));
    }
  }
  if (spec.grouping) {
    size_t end = digits.find_first_not_of("0123456789");
    if (end == digits.npos) end = digits.size();
    while (end > 3) digits.insert(end -= 3, ",");
  }
  const std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  if (spec.align == '=' && spec.width > 0) {  // zeros between the sign and the digits
    if (spec.width > 10'000) return bad_argument("the width is too large");
    const int64_t missing = spec.width - int64_t(sign.size() + digits.size());
    if (missing > 0) return sign + std::string(size_t(missing), spec.fill.view()[0]) + digits;
  }
  return sign + digits;
}

Result<void> put(Context& context, TextBuilder& out, const Text& text, const Spec& spec, bool is_number) {
  const char align = spec.align != 0 ? spec.align : is_number ? '>' : '<';
  PONDER_TRY(const Value padded, pad(context, text, spec.width,
                                     align == '<'   ? Side::left
                                     : align == '^' ? Side::both
                                                    : Side::right,
                                     spec.fill));
  return out.append(padded.as_text());
}

Result<void> put_value(Context& context, TextBuilder& out, const Value& v, const Spec& spec) {
  if (v.is_undefined() && spec.type != 0 && spec.type != 's') return bad_argument(v.undefined_message());
  const bool as_text = spec.type == 's' || (spec.type == 0 && !(v.is_number() && !v.is_bool()));
  if (as_text) {
    if (spec.type == 's' && !v.is_string())
      return bad_argument("format 's' needs a string, not a " + std::string(v.type_name()));
    PONDER_TRY(Text text, text_of(context, v));
    if (spec.precision >= 0) text = text.slice(0, byte_offset(text.view(), size_t(spec.precision)));
    return put(context, out, text, spec, false);
  }
  PONDER_TRY(std::string digits, number_text(v, spec));
  return put(context, out, Text(std::move(digits), Origin::template_text), spec, true);
}

// Digits at `i`; false when they do not fit.
bool read_number(std::string_view s, size_t& i, int64_t& value) {
  const size_t start = i;
  while (i < s.size() && s[i] >= '0' && s[i] <= '9') ++i;
  if (i == start) return true;
  return i - start <= 9 && std::from_chars(s.data() + start, s.data() + i, value).ec == std::errc();
}

// [[fill]align][sign][#][0][width][,][.precision][type]
Result<Spec> parse_spec(const Text& text) {
  Spec spec;
  const std::string_view s = text.view();
  size_t i = 0;
  const auto is_align = [&](size_t at) { return at < s.size() && std::string_view("<>^=").find(s[at]) != s.npos; };
  const size_t first = s.empty() ? 0 : utf8::decode(s).length;
  if (first > 0 && is_align(first)) {
    spec.fill = text.slice(0, first);
    spec.align = s[first];
    i = first + 1;
  } else if (is_align(0)) {
    spec.align = s[i++];
  }
  if (spec.align == '=' && spec.fill.size() != 1) return bad_argument("the fill of '=' must be one plain character");
  if (i < s.size() && (s[i] == '+' || s[i] == '-' || s[i] == ' ')) spec.sign = s[i++];
  if (i < s.size() && s[i] == '#') spec.alternate = ++i > 0;
  if (i < s.size() && s[i] == '0' && spec.align == 0) {
    spec.fill = Text("0", Origin::template_text);
    spec.align = '=';
    ++i;
  }
  bool good = read_number(s, i, spec.width);
  if (i < s.size() && s[i] == ',') spec.grouping = ++i > 0;
  if (i < s.size() && s[i] == '.') {
    ++i;
    spec.precision = 0;
    good = good && read_number(s, i, spec.precision);
  }
  if (i < s.size()) spec.type = s[i++];
  if (!good || i != s.size() || spec.precision > kMaxPrecision * 1000 ||
      (spec.type != 0 && std::string_view("sdxXobfFeEgG%").find(spec.type) == s.npos)) {
    return bad_argument("the format '" + std::string(s) + "' is not supported");
  }
  if (spec.type != 0 && spec.type != 's' && spec.precision > kMaxPrecision)
    return bad_argument("the precision is too large");
  return spec;
}

}  // namespace

Result<Value> percent_format(Context& context, const Text& format, const Value& values) {
  const bool tuple = values.is_list() && values.as_list().is_tuple;
  size_t used = 0;
  TextBuilder out(context);
  const std::string_view f = format.view();
  for (size_t i = 0; i < f.size();) {
    const size_t mark = std::min(f.find('%', i), f.size());
    PONDER_CHECK_OK(out.append(format, i, mark));
    if (mark == f.size()) break;
    i = mark + 1;
    if (i < f.size() && f[i] == '%') {
      PONDER_CHECK_OK(out.append("%", format.origin_at(i)));
      ++i;
      continue;
    }
    const Value* value = nullptr;
    if (i < f.size() && f[i] == '(') {
      const size_t close = f.find(')', i);
      if (close == f.npos || !values.is_dict()) return bad_argument("format: %(name) needs a dict");
      value = values.as_dict().find(f.substr(i + 1, close - i - 1));
      if (value == nullptr)
        return bad_argument("format: no value named '" + std::string(f.substr(i + 1, close - i - 1)) + "'");
      i = close + 1;
    }
    Spec spec;
    for (; i < f.size() && std::string_view("-+ 0#").find(f[i]) != f.npos; ++i) {
      if (f[i] == '-') spec.align = '<';
      if (f[i] == '0' && spec.align == 0) spec.align = '=', spec.fill = Text("0", Origin::template_text);
      if (f[i] == '+' || (f[i] == ' ' && spec.sign != '+')) spec.sign = f[i];
      if (f[i] == '#') spec.alternate = true;
    }
    bool good = read_number(f, i, spec.width);
    if (i < f.size() && f[i] == '.') {
      ++i;
      spec.precision = 0;
      good = good && read_number(f, i, spec.precision);
    }
    if (i >= f.size() || !good) return bad_argument("format: a broken % in the format");
    const char type = f[i++];
    if (value == nullptr) {
      if (tuple ? used >= values.as_list().items.size() : used >= 1) return bad_argument("format: not enough values");
      value = tuple ? &values.as_list().items[used] : &values;
      ++used;
    }
    if (type == 's' || type == 'r') {
      Text text = type == 'r' ? repr(*value) : to_text(*value);
      PONDER_CHECK_OK(context.charge_bytes(text.cost()));
      if (spec.precision >= 0) text = text.slice(0, byte_offset(text.view(), size_t(spec.precision)));
      if (spec.align == '=') spec.align = '>', spec.fill = Text(" ", Origin::template_text);
      PONDER_CHECK_OK(put(context, out, text, spec, true));
    } else if (std::string_view("diuxXofFeEgG").find(type) != f.npos) {
      if (spec.precision > kMaxPrecision) return bad_argument("format: the precision is too large");
      spec.type = type == 'i' || type == 'u' ? 'd' : type;
      PONDER_TRY(std::string digits, number_text(*value, spec));
      PONDER_CHECK_OK(put(context, out, Text(std::move(digits), Origin::template_text), spec, true));
    } else {
      return bad_argument(std::string("format: '%") + type + "' is not supported");
    }
  }
  if (tuple ? used < values.as_list().items.size() : used == 0 && !values.is_dict() && !values.is_list()) {
    return bad_argument("format: not all values are used");
  }
  return out.take();
}

Result<Value> brace_format(Context& context, const Text& format, const CallArgs& args) {
  TextBuilder out(context);
  size_t next = 0;
  const std::string_view f = format.view();
  for (size_t i = 0; i < f.size();) {
    const size_t mark = std::min(f.find_first_of("{}", i), f.size());
    PONDER_CHECK_OK(out.append(format, i, mark));
    if (mark == f.size()) break;
    i = mark + 1;
    if (i < f.size() && f[i] == f[mark]) {
      PONDER_CHECK_OK(out.append(format, mark, i));
      ++i;
      continue;
    }
    const size_t close = f.find('}', i);
    if (f[mark] == '}' || close == f.npos)
      return bad_argument("a single '" + std::string(1, f[mark]) + "' in the format");
    const std::string_view field = f.substr(i, close - i);
    if (field.find('{') != field.npos) return bad_argument("nested fields are not supported");
    const size_t colon = std::min(field.find(':'), field.size());
    std::string_view name = field.substr(0, colon);
    char conversion = 0;
    if (const size_t bang = name.find('!'); bang != name.npos) {
      conversion = bang + 2 == name.size() ? name[bang + 1] : '?';
      name = name.substr(0, bang);
    }
    // The value: position or name, then .attribute and [item].
    const size_t head_end = std::min(name.find_first_of(".["), name.size());
    const std::string_view head = name.substr(0, head_end);
    Value value;
    if (head.empty() || (head[0] >= '0' && head[0] <= '9')) {
      size_t index = next;
      if (head.empty()) {
        ++next;
      } else if (std::from_chars(head.data(), head.data() + head.size(), index).ec != std::errc()) {
        return bad_argument("a broken field in the format");
      }
      if (index >= args.positional.size()) return bad_argument("not enough values for the format");
      value = args.positional[index];
    } else {
      bool found = false;
      for (const auto& [key, named] : args.named) {
        if (key == head) value = named, found = true;
      }
      if (!found) return bad_argument("no value named '" + std::string(head) + "'");
    }
    for (size_t at = head_end; at < name.size();) {
      const bool item = name[at] == '[';
      const size_t end = std::min(item ? name.find(']', at) : name.find_first_of(".[", at + 1), name.size());
      const std::string key(name.substr(at + 1, end - at - 1));
      if (item) {
        int64_t index = 0;
        const auto r = std::from_chars(key.data(), key.data() + key.size(), index);
        const bool number = r.ec == std::errc() && r.ptr == key.data() + key.size();
        PONDER_TRY(value, context.item(value, number ? Value(index) : Value::literal(key)));
      } else {
        PONDER_TRY(value, context.attribute(value, key));
      }
      at = item ? end + 1 : end;
    }
    if (conversion == 'r') value = Value(repr(value));
    if (conversion == 's') value = Value(to_text(value));
    if (conversion != 0 && conversion != 'r' && conversion != 's')
      return bad_argument("this conversion is not supported");
    PONDER_TRY(const Spec spec, parse_spec(colon < field.size() ? format.slice(i + colon + 1, close) : Text()));
    PONDER_CHECK_OK(put_value(context, out, value, spec));
    i = close + 1;
  }
  return out.take();
}

}  // namespace ponder::chat::jinja
