// What filters, tests, functions and methods may use of a running evaluation: its budgets, its
// arena, and calls back into it. Everything here reports errors without a place; the evaluator adds
// line and column.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja/object.h"
#include "chat/jinja/value.h"

namespace ponder::chat::jinja {

struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Context {
 public:
  virtual ~Context() = default;
  /// Errors (out_of_range) when the rendering has done too much, or made too much text.
  virtual Result<void> charge_steps(uint64_t steps) = 0;
  virtual Result<void> charge_bytes(uint64_t bytes) = 0;
  /// Hands an object to the arena.
  virtual Object* keep(std::unique_ptr<Object> object) = 0;
  virtual Result<Value> call(const Value& callee, CallArgs args) = 0;
  virtual Result<Value> filter(std::string_view name, const Value& subject, CallArgs args) = 0;
  virtual Result<bool> test(std::string_view name, const Value& subject, CallArgs args) = 0;
  virtual Result<Value> attribute(const Value& subject, std::string_view name) = 0;
  virtual Result<Value> item(const Value& subject, const Value& key) = 0;
  /// The items of a list, the keys of a dict, the characters of a string; undefined has none.
  virtual Result<Value::Lists> iterate(const Value& subject) = 0;
  virtual int64_t now() const = 0;  ///< seconds since the epoch

  // Values out of containers, within the budgets.
  Result<Value> make(List list);
  Result<Value> make(Dict dict);
  Result<Value> make(Text text);
};

/// Builds a string within the budget, piece by piece.
class TextBuilder {
 public:
  explicit TextBuilder(Context& context) : context_(context) {}
  Result<void> append(std::string_view bytes, Origin origin);
  Result<void> append(const Text& text) { return append(text, 0, text.size()); }
  Result<void> append(const Text& text, size_t begin, size_t end);
  /// `count` times.
  Result<void> repeat(const Text& text, uint64_t count);
  const Text& text() const { return text_; }
  Value take() { return Value(std::move(text_)); }

 private:
  Context& context_;
  Text text_;
};

Error bad_argument(std::string message);

/// Arguments sorted to the named parameters; null where none was given. Errors on unknown names and
/// too many.
Result<std::vector<const Value*>> bind(const CallArgs& args, std::initializer_list<std::string_view> parameters);
/// The value as a whole number, or an Error that names `what`.
Result<int64_t> to_int(const Value& value, std::string_view what);

using Filter = Result<Value> (*)(Context&, const Value& subject, const CallArgs&);
using Test = Result<bool> (*)(Context&, const Value& subject, const CallArgs&);
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

/// A Python method of a string, list or dict. `has_method` also knows the ones that are refused.
bool has_method(const Value& subject, std::string_view name);
Result<Value> call_method(Context& context, const Value& subject, std::string_view name, const CallArgs& args);

struct Function : Object {
  using Body = Result<Value> (*)(Context&, const CallArgs&);
  Function(std::string_view n, Body b) : name(n), body(b) {}
  std::string_view type_name() const override { return "function"; }
  bool callable() const override { return true; }
  std::string_view name;
  Body body;
};
/// namespace, range, dict, raise_exception, strftime_now, cycler, joiner. Null for another name.
Function::Body find_function(std::string_view name);

struct Namespace : Object {
  std::string_view type_name() const override { return "namespace"; }
  std::vector<std::pair<std::string, Value>> values;
  Value* find(std::string_view name);
};

struct Cycler : Object {
  std::string_view type_name() const override { return "cycler"; }
  std::vector<Value> items;
  size_t position = 0;
};

struct Joiner : Object {
  std::string_view type_name() const override { return "joiner"; }
  bool callable() const override { return true; }
  Value separator;
  bool used = false;
};

// Operators (operators.cpp).
Result<Value> add(Context&, const Value& a, const Value& b);
Result<Value> arithmetic(Context&, char op, const Value& a,
                         const Value& b);  ///< + - * / % , 'f' for //, 'p' for **
Result<bool> contains(Context&, const Value& container, const Value& item);
/// text % values, Python's old formatting (format.cpp).
Result<Value> percent_format(Context&, const Text& format, const Value& values);
/// format.format(...) (format.cpp).
Result<Value> brace_format(Context&, const Text& format, const CallArgs& args);

/// str(value) as a value, charged to the budget.
Result<Text> text_of(Context&, const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;
  std::string indent;
  std::string item_separator = ", ", key_separator = ": ";
};
Result<Value> to_json(Context&, const Value& value, const JsonStyle& style);
/// JSON text to a value; every string is of the given origin.
Result<Value> from_json(std::string_view json, Origin origin);

}  // namespace ponder::chat::jinja
