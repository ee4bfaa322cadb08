// Attributes, items, calls: what Python finds by getattr, Jinja2 finds by getattr and then by item,
// in that order for x.name and in the other for x['name'].
#include <algorithm>

#include "base/utf8.h"
#include "chat/jinja/evaluator.h"
#include "chat/jinja/strings.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {

Result<Value> Evaluator::filter(std::string_view name, const Value& subject, CallArgs args) {
  const Filter f = find_filter(name);
  if (f == nullptr) return Error{ErrorCode::unsupported, "there is no filter named '" + std::string(name) + "'"};
  PONDER_CHECK_OK(charge_steps(1 + (subject.is_string() ? subject.as_text().size() / 256 : 0)));
  Result<Value> result = f(*this, subject, args);
  if (result.ok() || located_ || result.error().code == ErrorCode::out_of_range) return result;
  return result.error().with_context("filter '" + std::string(name) + "'");
}

Result<bool> Evaluator::test(std::string_view name, const Value& subject, CallArgs args) {
  const Test t = find_test(name);
  if (t == nullptr) return Error{ErrorCode::unsupported, "there is no test named '" + std::string(name) + "'"};
  PONDER_CHECK_OK(charge_steps(1));
  Result<bool> result = t(*this, subject, args);
  if (result.ok() || result.error().code == ErrorCode::out_of_range) return result;
  return result.error().with_context("test '" + std::string(name) + "'");
}

Result<Value::Lists> Evaluator::iterate(const Value& v) {
  if (v.is_list()) return v.shared_list();
  List list;
  if (v.is_dict()) {
    PONDER_CHECK_OK(charge_bytes(v.as_dict().entries.size() * sizeof(Value)));
    for (const Dict::Entry& e : v.as_dict().entries) list.items.push_back(e.key);
  } else if (v.is_string()) {
    const Text& text = v.as_text();
    PONDER_CHECK_OK(charge_bytes(text.size() * (sizeof(Value) + sizeof(Text) + 16)));
    for (size_t i = 0; i < text.size();) {
      const size_t length = utf8::decode(text.view().substr(i)).length;
      list.items.emplace_back(text.slice(i, i + length));
      i += length;
    }
  } else if (!v.is_undefined()) {
    return bad_argument("a " + std::string(v.type_name()) + " cannot be iterated");
  }
  return std::make_shared<const List>(std::move(list));
}

Result<Value> Evaluator::attribute(const Value& subject, std::string_view name) {
  if (subject.is_undefined()) return bad_argument(subject.undefined_message());
  if (subject.is_object()) {
    Object* object = subject.as_object();
    if (auto* ns = dynamic_cast<Namespace*>(object)) {
      if (const Value* value = ns->find(name)) return *value;
    } else if (auto* loop = dynamic_cast<Loop*>(object)) {
      return loop_attribute(*loop, name);
    } else if (auto* cycler = dynamic_cast<Cycler*>(object); cycler != nullptr && name == "current") {
      return cycler->items[cycler->position];
    } else if (auto* macro = dynamic_cast<Macro*>(object); macro != nullptr && name == "name") {
      return Value::literal(macro->statement->text);
    }
  } else if (has_method(subject, name)) {
    PONDER_CHECK_OK(charge_bytes(128));
    auto method = std::make_unique<BoundMethod>();
    method->self = subject;
    method->name = name;
    return Value(keep(std::move(method)));
  } else if (subject.is_dict()) {
    if (const Value* value = subject.as_dict().find(name)) return *value;
  }
  return Value::undefined("a " + std::string(subject.type_name()) + " has no attribute '" + std::string(name) + "'");
}

Result<Value> Evaluator::item(const Value& subject, const Value& key) {
  if (subject.is_undefined()) return bad_argument(subject.undefined_message());
  if (subject.is_dict()) {
    if (const Value* value = subject.as_dict().find(key)) return *value;
  } else if (subject.is_list() && key.is_integral()) {
    const int64_t size = int64_t(subject.as_list().items.size());
    const int64_t i = key.as_int() < 0 ? key.as_int() + size : key.as_int();
    if (i >= 0 && i < size) return subject.as_list().items[size_t(i)];
  } else if (subject.is_string() && key.is_integral()) {
    const Text& text = subject.as_text();
    PONDER_CHECK_OK(charge_steps(text.size() / 256));
    const int64_t size = int64_t(count_code_points(text.view()));
    const int64_t i = key.as_int() < 0 ? key.as_int() + size : key.as_int();
    if (i >= 0 && i < size) {
      const size_t begin = byte_offset(text.view(), size_t(i));
      return make(text.slice(begin, begin + utf8::decode(text.view().substr(begin)).length));
    }
  }
  if (key.is_string()) {
    if (!subject.is_dict() || has_method(subject, key.as_view())) return attribute(subject, key.as_view());
    return Value::undefined("a dict has no item '" + std::string(key.as_view()) + "'");
  }
  if (key.is_undefined()) return Value::undefined(key.undefined_message());
  return Value::undefined("a " + std::string(subject.type_name()) + " has no item " + to_text(key).bytes());
}

Result<Value> Evaluator::eval_call(const Expr& e, Scope& scope, const Value* caller) {
  const Expr& callee = *e.children[0];
  // x.method(...): without making an object of the method first.
  if (callee.kind == ExprKind::attribute) {
    PONDER_TRY(const Value subject, eval(*callee.children[0], scope));
    if (has_method(subject, callee.text)) {
      PONDER_TRY(const CallArgs args, eval_arguments(*e.arguments, scope));
      PONDER_CHECK_OK(charge_steps(1));
      return call_method(*this, subject, callee.text, args);
    }
    if (subject.is_object()) {
      if (auto* loop = dynamic_cast<Loop*>(subject.as_object())) {
        PONDER_TRY(const CallArgs args, eval_arguments(*e.arguments, scope));
        return loop_method(*loop, callee.text, args);
      }
      if (auto* cycler = dynamic_cast<Cycler*>(subject.as_object())) {
        Value current = cycler->items[cycler->position];
        if (callee.text == "next") cycler->position = (cycler->position + 1) % cycler->items.size();
        if (callee.text == "reset") cycler->position = 0;
        if (callee.text == "next") return current;
        if (callee.text == "reset") return Value(None{});
      }
    }
    PONDER_TRY(const Value function, attribute(subject, callee.text));
    PONDER_TRY(CallArgs args, eval_arguments(*e.arguments, scope));
    if (caller != nullptr) args.named.emplace_back("caller", *caller);
    return call(function, std::move(args));
  }
  PONDER_TRY(const Value function, eval(callee, scope));
  PONDER_TRY(CallArgs args, eval_arguments(*e.arguments, scope));
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  return call(function, std::move(args));
}

Result<Value> Evaluator::call(const Value& callee, CallArgs args) {
  if (callee.is_undefined()) return bad_argument(callee.undefined_message() + " and cannot be called");
  Object* object = callee.is_object() ? callee.as_object() : nullptr;
  if (auto* macro = dynamic_cast<Macro*>(object)) return call_macro(*macro, std::move(args));
  if (auto* function = dynamic_cast<Function*>(object)) return function->body(*this, args);
  if (auto* method = dynamic_cast<BoundMethod*>(object)) return call_method(*this, method->self, method->name, args);
  if (auto* joiner = dynamic_cast<Joiner*>(object)) {
    const bool first = !std::exchange(joiner->used, true);
    return first ? Value::literal("") : joiner->separator;
  }
  return bad_argument("a " + std::string(callee.type_name()) + " cannot be called");
}

Result<Value> Evaluator::call_macro(const Macro& macro, CallArgs args) {
  const Stmt& s = *macro.statement;
  const std::string name = s.kind == StmtKind::macro ? "macro '" + s.text + "'" : "caller()";
  Scope* scope = open_scope(macro.scope);
  if (args.positional.size() > s.parameters.size()) {
    if (varargs_symbol_ < 0)
      return bad_argument(name + " takes at most " + std::to_string(s.parameters.size()) + " argument(s)");
    List rest;
    rest.is_tuple = true;
    rest.items.assign(args.positional.begin() + int64_t(s.parameters.size()), args.positional.end());
    args.positional.resize(s.parameters.size());
    PONDER_TRY(Value value, make(std::move(rest)));
    scope->set(varargs_symbol_, std::move(value));
  } else if (varargs_symbol_ >= 0) {
    List none;
    none.is_tuple = true;
    scope->set(varargs_symbol_, Value(std::move(none)));
  }
  Dict extra;
  bool has_caller = false;
  for (size_t i = 0; i < args.positional.size(); ++i) scope->set(s.parameters[i].symbol, args.positional[i]);
  for (auto& [key, value] : args.named) {
    size_t i = 0;
    while (i < s.parameters.size() && s.parameters[i].name != key) ++i;
    if (i < s.parameters.size()) {
      if (i < args.positional.size()) return bad_argument(name + " got the argument '" + key + "' twice");
      scope->set(s.parameters[i].symbol, std::move(value));
    } else if (key == "caller") {
      has_caller = true;
      if (caller_symbol_ >= 0) scope->set(caller_symbol_, std::move(value));
    } else if (kwargs_symbol_ >= 0) {
      extra.put(key, std::move(value));
    } else {
      return bad_argument(name + " has no argument named '" + key + "'");
    }
  }
  if (kwargs_symbol_ >= 0) {
    PONDER_TRY(Value value, make(std::move(extra)));
    scope->set(kwargs_symbol_, std::move(value));
  }
  // Without a call block, `caller` is undefined inside a macro, whatever is around it.
  if (caller_symbol_ >= 0 && !has_caller && s.kind == StmtKind::macro && scope->find(caller_symbol_) == nullptr) {
    scope->set(caller_symbol_, Value::undefined("no caller defined"));
  }
  for (const Parameter& p : s.parameters) {
    if (scope->find(p.symbol) != nullptr) continue;
    if (p.default_value != nullptr) {
      PONDER_TRY(Value value, eval(*p.default_value, *scope));
      scope->set(p.symbol, std::move(value));
    } else {
      scope->set(p.symbol, Value::undefined("parameter '" + p.name + "' was not provided"));
    }
  }
  Text out;
  PONDER_TRY(const Flow flow, exec(s.body, *scope, out));
  (void)flow;
  close_scope(scope);
  return Value(std::move(out));
}

Result<Value> Evaluator::loop_attribute(Loop& loop, std::string_view name) {
  const auto next = [&]() -> Result<bool> { return fill(loop, 1); };
  if (name == "index0") return Value(loop.index0);
  if (name == "index") return Value(loop.index0 + 1);
  if (name == "first") return Value(loop.index0 == 0);
  if (name == "depth") return Value(int64_t(loop.depth));
  if (name == "depth0") return Value(int64_t(loop.depth - 1));
  if (name == "last") {
    PONDER_TRY(const bool more, next());
    return Value(!more);
  }
  if (name == "length" || name == "revindex" || name == "revindex0") {
    PONDER_TRY(const bool all, fill(loop, SIZE_MAX));
    (void)all;
    const int64_t left = int64_t(loop.ahead.size());
    return Value(name == "length" ? loop.index0 + 1 + left : name == "revindex" ? left + 1 : left);
  }
  if (name == "previtem") return loop.has_previous ? loop.previous : Value::undefined("there is no previous item");
  if (name == "nextitem") {
    PONDER_TRY(const bool more, next());
    return more ? loop.ahead.front() : Value::undefined("there is no next item");
  }
  return Value::undefined("'loop' has no attribute '" + std::string(name) + "'");
}

Result<Value> Evaluator::loop_method(Loop& loop, std::string_view name, const CallArgs& args) {
  if (name == "cycle") {
    if (args.positional.empty()) return bad_argument("loop.cycle() needs at least one value");
    return args.positional[size_t(std::max<int64_t>(loop.index0, 0)) % args.positional.size()];
  }
  if (name == "changed") {
    bool same = loop.has_changed && loop.changed.size() == args.positional.size();
    for (size_t i = 0; same && i < loop.changed.size(); ++i) same = equal(loop.changed[i], args.positional[i]);
    loop.changed = args.positional;
    loop.has_changed = true;
    return Value(!same);
  }
  return bad_argument("'loop' has no method '" + std::string(name) + "'");
}

}  // namespace ponder::chat::jinja
