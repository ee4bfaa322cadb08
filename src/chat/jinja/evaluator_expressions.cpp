// Expressions. Every node costs a step and a level of depth; the innermost node that fails gives
// the error its place.
#include "chat/jinja/evaluator.h"
#include "chat/jinja/strings.h"

namespace ponder::chat::jinja {

Result<Value> Evaluator::eval(const Expr& e, Scope& scope) {
  if (e.kind == ExprKind::constant) return e.constant;
  ++depth_;
  Result<void> allowed = charge_steps(1);
  if (allowed) allowed = check_depth();
  Result<Value> result = allowed ? eval_inner(e, scope) : Result<Value>(allowed.error());
  --depth_;
  if (result.ok() || located_) return result;
  located_ = true;
  return error_at(result.error().code, e.place, result.error().message);
}

Result<Value> Evaluator::eval_inner(const Expr& e, Scope& scope) {
  switch (e.kind) {
    case ExprKind::constant:
      return e.constant;
    case ExprKind::name:
      return eval_name(e, scope);
    case ExprKind::list:
    case ExprKind::tuple: {
      List list;
      list.is_tuple = e.kind == ExprKind::tuple;
      for (const ExprPtr& child : e.children) {
        PONDER_TRY(Value item, eval(*child, scope));
        list.items.push_back(std::move(item));
      }
      return make(std::move(list));
    }
    case ExprKind::dict: {
      Dict dict;
      for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
        PONDER_TRY(const Value key, eval(*e.children[i], scope));
        PONDER_TRY(Value value, eval(*e.children[i + 1], scope));
        if (!dict.set(key, std::move(value)))
          return bad_argument("a " + std::string(key.type_name()) + " cannot be a dict's key");
      }
      return make(std::move(dict));
    }
    case ExprKind::attribute: {
      PONDER_TRY(const Value subject, eval(*e.children[0], scope));
      return attribute(subject, e.text);
    }
    case ExprKind::item: {
      PONDER_TRY(const Value subject, eval(*e.children[0], scope));
      PONDER_TRY(const Value key, eval(*e.children[1], scope));
      return item(subject, key);
    }
    case ExprKind::slice:
      return eval_slice(e, scope);
    case ExprKind::call:
      return eval_call(e, scope);
    case ExprKind::filter: {
      PONDER_TRY(Value subject, eval(*e.children[0], scope));
      PONDER_TRY(CallArgs args, eval_arguments(*e.arguments, scope));
      return filter(e.text, subject, std::move(args));
    }
    case ExprKind::test: {
      PONDER_TRY(const Value subject, eval(*e.children[0], scope));
      PONDER_TRY(CallArgs args, eval_arguments(*e.arguments, scope));
      PONDER_TRY(const bool holds, test(e.text, subject, std::move(args)));
      return Value(holds);
    }
    case ExprKind::negate:
    case ExprKind::plus: {
      PONDER_TRY(const Value operand, eval(*e.children[0], scope));
      if (!operand.is_number()) {
        if (operand.is_undefined()) return bad_argument(operand.undefined_message());
        return bad_argument("a sign needs a number, not a " + std::string(operand.type_name()));
      }
      if (e.kind == ExprKind::plus) return operand.is_bool() ? Value(operand.as_int()) : operand;
      if (operand.is_float()) return Value(-operand.as_double());
      return arithmetic(*this, '-', int64_t(0), Value(operand.as_int()));
    }
    case ExprKind::not_: {
      PONDER_TRY(const Value operand, eval(*e.children[0], scope));
      return Value(!truthy(operand));
    }
    case ExprKind::chain:
      return eval_chain(e, scope);
    case ExprKind::compare:
      return eval_compare(e, scope);
    case ExprKind::concat: {
      TextBuilder out(*this);
      for (const ExprPtr& child : e.children) {
        PONDER_TRY(const Value part, eval(*child, scope));
        if (part.is_string()) {
          PONDER_CHECK_OK(out.append(part.as_text()));
        } else {
          PONDER_CHECK_OK(out.append(to_text(part)));
        }
      }
      return out.take();
    }
    case ExprKind::and_:
    case ExprKind::or_: {
      Value value;
      for (const ExprPtr& child : e.children) {
        PONDER_TRY(value, eval(*child, scope));
        if (truthy(value) == (e.kind == ExprKind::or_)) break;
      }
      return value;
    }
    case ExprKind::conditional: {
      PONDER_TRY(const Value condition, eval(*e.children[1], scope));
      if (truthy(condition)) return eval(*e.children[0], scope);
      if (e.children[2] != nullptr) return eval(*e.children[2], scope);
      return Value::undefined("this conditional expression has no else and its condition is false");
    }
  }
  return Error{ErrorCode::internal, "unknown expression"};
}

Result<Value> Evaluator::eval_name(const Expr& e, Scope& scope) {
  for (Scope* s = &scope; s != nullptr; s = s->parent) {
    if (const Value* value = s->find(e.symbol)) return *value;
  }
  return Value::undefined("'" + program_.symbols[size_t(e.symbol)] + "' is undefined");
}

Result<Value> Evaluator::eval_slice(const Expr& e, Scope& scope) {
  PONDER_TRY(const Value subject, eval(*e.children[0], scope));
  int64_t bounds[3];
  const int64_t* given[3] = {nullptr, nullptr, nullptr};
  for (int i = 0; i < 3; ++i) {
    if (e.children[size_t(i) + 1] == nullptr) continue;
    PONDER_TRY(const Value bound, eval(*e.children[size_t(i) + 1], scope));
    if (bound.is_none()) continue;
    PONDER_TRY(bounds[i], to_int(bound, "a slice's bound"));
    given[i] = &bounds[i];
  }
  const int64_t step = given[2] != nullptr ? bounds[2] : 1;
  if (step == 0) return bad_argument("a slice cannot step by 0");
  if (subject.is_string()) return slice_text(*this, subject.as_text(), given[0], given[1], step);
  if (subject.is_undefined()) return bad_argument(subject.undefined_message());
  if (!subject.is_list()) return bad_argument("a " + std::string(subject.type_name()) + " cannot be sliced");
  const List& list = subject.as_list();
  const SliceRange range = slice_range(int64_t(list.items.size()), given[0], given[1], step);
  PONDER_CHECK_OK(charge_bytes(uint64_t(range.count) * sizeof(Value)));
  List out;
  out.is_tuple = list.is_tuple;
  for (int64_t k = 0, i = range.start; k < range.count; ++k) {
    out.items.push_back(list.items[size_t(i)]);
    if (k + 1 < range.count) i += step;
  }
  return make(std::move(out));
}

// a + b + c of strings is the commonest expression of all: it is joined in one buffer.
Result<Value> Evaluator::eval_chain(const Expr& e, Scope& scope) {
  static constexpr char kLetters[] = {'+', '-', '*', '/', 'f', '%', 'p'};
  PONDER_TRY(Value left, eval(*e.children[0], scope));
  for (size_t i = 0; i < e.ops.size(); ++i) {
    PONDER_TRY(Value right, eval(*e.children[i + 1], scope));
    if (e.ops[i] == Op::add && left.is_string() && right.is_string()) {
      TextBuilder out(*this);
      PONDER_CHECK_OK(out.append(left.as_text()));
      PONDER_CHECK_OK(out.append(right.as_text()));
      while (i + 1 < e.ops.size() && e.ops[i + 1] == Op::add) {
        PONDER_TRY(right, eval(*e.children[i + 2], scope));
        if (!right.is_string()) break;
        PONDER_CHECK_OK(out.append(right.as_text()));
        ++i;
      }
      left = out.take();
      if (i + 1 < e.ops.size() && e.ops[i + 1] == Op::add) {  // the operand that ended the run
        PONDER_TRY(left, add(*this, left, right));
        ++i;
      }
      continue;
    }
    PONDER_TRY(left, arithmetic(*this, kLetters[int(e.ops[i])], left, right));
  }
  return left;
}

Result<Value> Evaluator::eval_compare(const Expr& e, Scope& scope) {
  PONDER_TRY(Value left, eval(*e.children[0], scope));
  for (size_t i = 0; i < e.ops.size(); ++i) {
    PONDER_TRY(Value right, eval(*e.children[i + 1], scope));
    PONDER_CHECK_OK(charge_steps(std::min(weight_of(left), weight_of(right)) / 64));
    bool holds = false;
    switch (e.ops[i]) {
      case Op::eq:
        holds = equal(left, right);
        break;
      case Op::ne:
        holds = !equal(left, right);
        break;
      case Op::in:
      case Op::not_in: {
        PONDER_TRY(const bool inside, contains(*this, right, left));
        holds = inside == (e.ops[i] == Op::in);
        break;
      }
      case Op::lt: {
        PONDER_TRY(holds, less(left, right));
        break;
      }
      case Op::gt: {
        PONDER_TRY(holds, less(right, left));
        break;
      }
      default: {  // <= and >=: less or equal, which is not "not greater" for nan
        PONDER_TRY(holds, e.ops[i] == Op::le ? less(left, right) : less(right, left));
        holds = holds || equal(left, right);
        break;
      }
    }
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<CallArgs> Evaluator::eval_arguments(const Arguments& arguments, Scope& scope) {
  CallArgs args;
  for (const ExprPtr& e : arguments.positional) {
    PONDER_TRY(Value value, eval(*e, scope));
    args.positional.push_back(std::move(value));
  }
  for (const auto& [name, e] : arguments.named) {
    PONDER_TRY(Value value, eval(*e, scope));
    args.named.emplace_back(name, std::move(value));
  }
  if (arguments.rest != nullptr) {
    PONDER_TRY(const Value rest, eval(*arguments.rest, scope));
    PONDER_TRY(const Value::Lists items, iterate(rest));
    PONDER_CHECK_OK(charge_bytes(items->items.size() * sizeof(Value)));
    args.positional.insert(args.positional.end(), items->items.begin(), items->items.end());
  }
  if (arguments.rest_named != nullptr) {
    PONDER_TRY(const Value rest, eval(*arguments.rest_named, scope));
    if (!rest.is_dict()) return bad_argument("** needs a dict, not a " + std::string(rest.type_name()));
    PONDER_CHECK_OK(charge_bytes(rest.as_dict().entries.size() * sizeof(Value)));
    for (const Dict::Entry& entry : rest.as_dict().entries)
      args.named.emplace_back(to_text(entry.key).bytes(), entry.value);
  }
  return args;
}

Result<Value> Evaluator::through_filters(const Expr& e, Value subject, Scope& scope) {
  if (e.children[0] != nullptr) {
    PONDER_TRY(subject, through_filters(*e.children[0], std::move(subject), scope));
  }
  PONDER_TRY(CallArgs args, eval_arguments(*e.arguments, scope));
  return filter(e.text, subject, std::move(args));
}

}  // namespace ponder::chat::jinja
