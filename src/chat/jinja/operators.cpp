// Python's operators on template values. Integers have 64 bits; what would not fit is an error,
// never a wrong number.
#include <cmath>

#include "chat/jinja/context.h"

namespace ponder::chat::jinja {
namespace {

Error unsupported(std::string_view op, const Value& a, const Value& b) {
  if (a.is_undefined()) return bad_argument(a.undefined_message());
  if (b.is_undefined()) return bad_argument(b.undefined_message());
  return bad_argument("unsupported operand types for " + std::string(op) + ": " + std::string(a.type_name()) + " and " +
                      std::string(b.type_name()));
}

Error overflow() { return bad_argument("an integer does not fit 64 bits"); }

Result<Value> repeat(Context& context, const Value& what, int64_t count) {
  const uint64_t times = count > 0 ? uint64_t(count) : 0;
  if (what.is_string()) {
    TextBuilder out(context);
    PONDER_CHECK_OK(out.repeat(what.as_text(), times));
    return out.take();
  }
  const List& list = what.as_list();
  List result;
  result.is_tuple = list.is_tuple;
  for (uint64_t i = 0; i < times && !list.items.empty(); ++i) {
    PONDER_CHECK_OK(context.charge_bytes(list.items.size() * sizeof(Value)));
    result.items.insert(result.items.end(), list.items.begin(), list.items.end());
  }
  return context.make(std::move(result));
}

// Python rounds the quotient down and gives the remainder the divisor's sign.
Result<Value> integer_operation(char op, int64_t x, int64_t y) {
  int64_t r = 0;
  switch (op) {
    case '+':
      if (__builtin_add_overflow(x, y, &r)) return overflow();
      return Value(r);
    case '-':
      if (__builtin_sub_overflow(x, y, &r)) return overflow();
      return Value(r);
    case '*':
      if (__builtin_mul_overflow(x, y, &r)) return overflow();
      return Value(r);
    case '/':
      if (y == 0) return bad_argument("division by zero");
      return Value(double(x) / double(y));
    case 'f':
    case '%': {
      if (y == 0) return bad_argument("division by zero");
      if (y == -1) {  // INT64_MIN / -1 does not fit
        if (op == '%') return Value(int64_t(0));
        if (__builtin_sub_overflow(int64_t(0), x, &r)) return overflow();
        return Value(r);
      }
      const int64_t remainder = x % y;
      const bool adjust = remainder != 0 && (remainder < 0) != (y < 0);
      return op == '%' ? Value(remainder + (adjust ? y : 0)) : Value(x / y - (adjust ? 1 : 0));
    }
    default: {  // **
      if (y < 0) return Value(std::pow(double(x), double(y)));
      int64_t base = x, result = 1;
      for (int64_t n = y; n > 0; n >>= 1) {
        if ((n & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
        if (n > 1 && __builtin_mul_overflow(base, base, &base)) return overflow();
      }
      return Value(result);
    }
  }
}

Result<Value> float_operation(char op, double x, double y) {
  switch (op) {
    case '+':
      return Value(x + y);
    case '-':
      return Value(x - y);
    case '*':
      return Value(x * y);
    case 'p':
      return Value(std::pow(x, y));
    default:
      break;
  }
  if (y == 0) return bad_argument("division by zero");
  if (op == '/') return Value(x / y);
  double remainder = std::fmod(x, y);
  if (remainder != 0 && (remainder < 0) != (y < 0)) remainder += y;
  return op == '%' ? Value(remainder) : Value(std::floor(x / y));
}

}  // namespace

Result<Value> add(Context& context, const Value& a, const Value& b) { return arithmetic(context, '+', a, b); }

Result<Value> arithmetic(Context& context, char op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return integer_operation(op, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return float_operation(op, a.as_double(), b.as_double());
  if (op == '+' && a.is_string() && b.is_string()) {
    TextBuilder out(context);
    PONDER_CHECK_OK(out.append(a.as_text()));
    PONDER_CHECK_OK(out.append(b.as_text()));
    return out.take();
  }
  if (op == '+' && a.is_list() && b.is_list() && a.as_list().is_tuple == b.as_list().is_tuple) {
    PONDER_CHECK_OK(context.charge_bytes((a.as_list().items.size() + b.as_list().items.size()) * sizeof(Value)));
    List list = a.as_list();
    list.items.insert(list.items.end(), b.as_list().items.begin(), b.as_list().items.end());
    return context.make(std::move(list));
  }
  if (op == '*' && (a.is_string() || a.is_list()) && b.is_integral()) return repeat(context, a, b.as_int());
  if (op == '*' && (b.is_string() || b.is_list()) && a.is_integral()) return repeat(context, b, a.as_int());
  if (op == '%' && a.is_string()) return percent_format(context, a.as_text(), b);
  const std::string name = op == 'f' ? "//" : op == 'p' ? "**" : std::string(1, op);
  return unsupported(name, a, b);
}

Result<bool> contains(Context& context, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      return bad_argument("'in' a string needs a string on the left, not " + std::string(item.type_name()));
    }
    PONDER_CHECK_OK(context.charge_steps(container.as_text().size() / 256));
    return container.as_view().find(item.as_view()) != std::string_view::npos;
  }
  if (container.is_dict()) return container.as_dict().find(item) != nullptr;
  if (container.is_list()) {
    for (const Value& v : container.as_list().items) {
      PONDER_CHECK_OK(context.charge_steps(1 + weight_of(v) / 64));
      if (equal(v, item)) return true;
    }
    return false;
  }
  if (container.is_undefined()) return false;
  return bad_argument("'in' needs a list, dict or string on the right, not " + std::string(container.type_name()));
}

}  // namespace ponder::chat::jinja
