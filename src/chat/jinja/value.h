// Values of the template language, with Python's semantics: undefined, None, bool, int (64 bits),
// float, str (with the origin of every byte), list and tuple, dict (any simple key, in order of
// insertion), and things that live as long as one rendering (namespaces, macros, functions, loops),
// which are held by plain pointers into the evaluator's arena so that no cycle of owners can arise.
// Lists and dicts never change once a value holds them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "chat/jinja/text.h"

namespace ponder::chat::jinja {

struct List;
struct Dict;
struct Object;  // namespace, callable, loop, ...: see evaluator.h

struct Undefined {
  std::shared_ptr<const std::string> what;  ///< "'x' is undefined", shared by copies of the value
};
struct None {};

class Value {
 public:
  using Strings = std::shared_ptr<const Text>;  // shared: strings, lists and dicts are immutable
  using Lists = std::shared_ptr<const List>;
  using Dicts = std::shared_ptr<const Dict>;

  Value() : v_(Undefined{}) {}
  Value(None) : v_(None{}) {}
  Value(bool b) : v_(b) {}
  Value(int64_t i) : v_(i) {}
  Value(double d) : v_(d) {}
  Value(Text text) : v_(std::make_shared<const Text>(std::move(text))) {}
  Value(List list);
  Value(Dict dict);
  Value(Object* object) : v_(object) {}
  template <class T>
  Value(const T*) = delete;

  static Value undefined(std::string what) {
    Value v;
    v.v_ = Undefined{std::make_shared<const std::string>(std::move(what))};
    return v;
  }
  /// A string the template wrote.
  static Value literal(std::string text) { return Value(Text(std::move(text), Origin::template_text)); }

  bool is_undefined() const { return std::holds_alternative<Undefined>(v_); }
  bool is_none() const { return std::holds_alternative<None>(v_); }
  bool is_bool() const { return std::holds_alternative<bool>(v_); }
  bool is_int() const { return std::holds_alternative<int64_t>(v_); }
  bool is_float() const { return std::holds_alternative<double>(v_); }
  bool is_string() const { return std::holds_alternative<Strings>(v_); }
  bool is_list() const { return std::holds_alternative<Lists>(v_); }  ///< or tuple
  bool is_dict() const { return std::holds_alternative<Dicts>(v_); }
  bool is_object() const { return std::holds_alternative<Object*>(v_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_integral() const { return is_bool() || is_int(); }

  bool as_bool() const { return std::get<bool>(v_); }
  int64_t as_int() const { return is_bool() ? int64_t(as_bool()) : std::get<int64_t>(v_); }
  double as_double() const { return is_float() ? std::get<double>(v_) : double(as_int()); }
  const Text& as_text() const { return *std::get<Strings>(v_); }
  std::string_view as_view() const { return as_text().view(); }
  const List& as_list() const { return *std::get<Lists>(v_); }
  Lists shared_list() const { return std::get<Lists>(v_); }
  const Dict& as_dict() const { return *std::get<Dicts>(v_); }
  Object* as_object() const { return std::get<Object*>(v_); }
  const void* identity() const;

  /// "'x' is undefined" of an undefined value.
  std::string undefined_message() const;
  /// Python's name of the type: "str", "dict", ...
  std::string_view type_name() const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, Strings, Lists, Dicts, Object*> v_;
};

/// Containers deeper than this are refused, which bounds every recursion over values.
constexpr int kMaxNesting = 300;

struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;        ///< nesting, set when a Value is made of it
  uint64_t weight = 1;  ///< values and bytes in the whole tree, shared parts counted each time
};

struct Dict {
  struct Entry {
    Value key, value;
  };
  std::vector<Entry> entries;
  int depth = 1;
  uint64_t weight = 1;

  /// Replaces or adds. False when the key cannot be one (a list, a dict, undefined).
  bool set(const Value& key, Value value);
  void put(std::string key, Value value, Origin origin = Origin::template_text);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;

 private:
  std::unordered_map<std::string, size_t> index_;  // canonical key -> entry
};

bool truthy(const Value& value);
bool equal(const Value& a, const Value& b);
/// Python's a < b; an error for types that have no order.
Result<bool> less(const Value& a, const Value& b);
/// str(value) / repr(value).
Text to_text(const Value& value);
Text repr(const Value& value);
std::string format_float(double d);
/// Nesting of a container value, 0 for others.
int depth_of(const Value& value);
/// How much work it is to walk the whole value: a small value can hold the same list twice, and
/// that list another twice, so that printing it would never end. Whoever builds a container refuses
/// one that is too heavy.
uint64_t weight_of(const Value& value);

}  // namespace ponder::chat::jinja
