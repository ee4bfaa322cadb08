// The tests after `is`.
#include <algorithm>

#include "chat/jinja/context.h"
#include "chat/jinja/object.h"

namespace ponder::chat::jinja {
namespace {

using Bound = std::vector<const Value*>;

template <bool (*predicate)(const Value&)>
Result<bool> plain(Context&, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  return predicate(v);
}

Result<const Value*> other(const CallArgs& args) {
  PONDER_TRY(const Bound a, bind(args, {"other"}));
  if (a[0] == nullptr) return bad_argument("needs a value to compare with");
  return a[0];
}

template <int direction, bool or_equal>
Result<bool> ordered(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  if (or_equal && equal(v, *o)) return true;
  return direction < 0 ? less(v, *o) : less(*o, v);
}

Result<bool> equals(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  return equal(v, *o);
}

Result<bool> differs(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  return !equal(v, *o);
}

Result<bool> same_as(Context&, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  if (v.type_name() != o->type_name()) return false;
  return v.identity() != nullptr ? v.identity() == o->identity() : equal(v, *o);
}

Result<bool> is_in(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  return contains(context, *o, v);
}

Result<bool> divisible_by(Context& context, const Value& v, const CallArgs& args) {
  PONDER_TRY(const Value* o, other(args));
  PONDER_TRY(const Value r, arithmetic(context, '%', v, *o));
  return r.is_number() && r.as_double() == 0;
}

template <int64_t remainder>
Result<bool> parity(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  if (!v.is_number()) return bad_argument("needs a number, not a " + std::string(v.type_name()));
  PONDER_TRY(const Value r, arithmetic(context, '%', v, int64_t(2)));
  return r.as_double() == double(remainder);
}

Result<bool> is_filter(Context&, const Value& v, const CallArgs&) {
  return v.is_string() && find_filter(v.as_view()) != nullptr;
}
Result<bool> is_test(Context&, const Value& v, const CallArgs&) {
  return v.is_string() && find_test(v.as_view()) != nullptr;
}

bool defined(const Value& v) { return !v.is_undefined(); }
bool undefined(const Value& v) { return v.is_undefined(); }
bool none(const Value& v) { return v.is_none(); }
bool string(const Value& v) { return v.is_string(); }
bool number(const Value& v) { return v.is_number(); }
bool integer(const Value& v) { return v.is_int(); }
bool floating(const Value& v) { return v.is_float(); }
bool boolean(const Value& v) { return v.is_bool(); }
bool is_true(const Value& v) { return v.is_bool() && v.as_bool(); }
bool is_false(const Value& v) { return v.is_bool() && !v.as_bool(); }
bool mapping(const Value& v) { return v.is_dict(); }
bool sequence(const Value& v) { return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined(); }
bool callable(const Value& v) { return v.is_object() && v.as_object()->callable(); }

// str.islower / isupper through the method, which knows about cased characters.
template <bool upper>
Result<bool> cased(Context& context, const Value& v, const CallArgs& args) {
  PONDER_CHECK_OK(bind(args, {}));
  PONDER_TRY(const Text text, text_of(context, v));
  PONDER_TRY(const Value r, call_method(context, Value(text), upper ? "isupper" : "islower", {}));
  return r.as_bool();
}

struct Entry {
  std::string_view name;
  Test test;
};
constexpr Entry kTests[] = {{"defined", plain<defined>},
                            {"undefined", plain<undefined>},
                            {"none", plain<none>},
                            {"string", plain<string>},
                            {"number", plain<number>},
                            {"integer", plain<integer>},
                            {"float", plain<floating>},
                            {"boolean", plain<boolean>},
                            {"true", plain<is_true>},
                            {"false", plain<is_false>},
                            {"mapping", plain<mapping>},
                            {"sequence", plain<sequence>},
                            {"iterable", plain<sequence>},
                            {"callable", plain<callable>},
                            {"upper", cased<true>},
                            {"lower", cased<false>},
                            {"eq", equals},
                            {"equalto", equals},
                            {"==", equals},
                            {"ne", differs},
                            {"!=", differs},
                            {"lt", ordered<-1, false>},
                            {"lessthan", ordered<-1, false>},
                            {"<", ordered<-1, false>},
                            {"le", ordered<-1, true>},
                            {"<=", ordered<-1, true>},
                            {"gt", ordered<1, false>},
                            {"greaterthan", ordered<1, false>},
                            {">", ordered<1, false>},
                            {"ge", ordered<1, true>},
                            {">=", ordered<1, true>},
                            {"sameas", same_as},
                            {"in", is_in},
                            {"divisibleby", divisible_by},
                            {"odd", parity<1>},
                            {"even", parity<0>},
                            {"filter", is_filter},
                            {"test", is_test}};

}  // namespace

Test find_test(std::string_view name) {
  for (const Entry& entry : kTests) {
    if (entry.name == name) return entry.test;
  }
  return nullptr;
}

}  // namespace ponder::chat::jinja
