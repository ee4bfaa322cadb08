// Statements, scopes, budgets. Expressions are in evaluator_expressions.cpp, objects and calls in
// evaluator_calls.cpp.
#include "chat/jinja/evaluator.h"

namespace ponder::chat::jinja {

Value* Scope::find(int symbol) {
  for (auto& [known, value] : variables) {
    if (known == symbol) return &value;
  }
  return nullptr;
}

void Scope::set(int symbol, Value value) {
  if (Value* known = find(symbol)) {
    *known = std::move(value);
  } else {
    variables.emplace_back(symbol, std::move(value));
  }
}

Evaluator::Evaluator(const Program& program, const RenderLimits& limits, int64_t now)
    : program_(program),
      limits_(limits),
      now_(now),
      loop_symbol_(program.find("loop")),
      caller_symbol_(program.find("caller")),
      varargs_symbol_(program.find("varargs")),
      kwargs_symbol_(program.find("kwargs")) {
  for (size_t i = 0; i < program.symbols.size(); ++i) {
    if (const Function::Body body = find_function(program.symbols[i])) {
      root_.set(int(i), Value(keep(std::make_unique<Function>(program.symbols[i], body))));
    }
  }
}

void Evaluator::set(std::string_view name, Value value) {
  const int symbol = program_.find(name);
  if (symbol >= 0) root_.set(symbol, std::move(value));  // a name the template never reads needs no value
}

Result<Text> Evaluator::run() {
  Text out;
  PONDER_TRY(const Flow flow, exec(program_.body, root_, out));
  (void)flow;
  return out;
}

Result<void> Evaluator::charge_steps(uint64_t steps) {
  steps_ += std::min(steps, limits_.max_steps + 1);
  if (steps_ > limits_.max_steps) {
    return Error{ErrorCode::out_of_range,
                 "the template runs too long (more than " + std::to_string(limits_.max_steps) + " steps)"};
  }
  return {};
}

// Everything a rendering ever makes counts, alive or not: that bounds both memory and time. Real
// templates make each byte of the prompt a handful of times.
Result<void> Evaluator::charge_bytes(uint64_t bytes) {
  const uint64_t limit =
      limits_.max_output > UINT64_MAX / 8 ? UINT64_MAX / 2 : limits_.max_output * 4 + (uint64_t(1) << 20);
  bytes_ += std::min(bytes, limit + 1);
  if (bytes_ > limit)
    return Error{ErrorCode::out_of_range,
                 "the template makes too much text (limit " + std::to_string(limits_.max_output) + " bytes)"};
  return {};
}

Object* Evaluator::keep(std::unique_ptr<Object> object) {
  objects_.push_back(std::move(object));
  return objects_.back().get();
}

Scope* Evaluator::open_scope(Scope* parent) {
  Scope* scope;
  if (!free_scopes_.empty()) {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  } else {
    scopes_.push_back(std::make_unique<Scope>());
    scope = scopes_.back().get();
  }
  scope->parent = parent;
  return scope;
}

void Evaluator::close_scope(Scope* scope) {
  if (scope->captured) return;  // a macro looks things up in it
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

Result<void> Evaluator::write(Text& out, const Text& text) {
  if (out.size() + text.size() > limits_.max_output) {
    return Error{ErrorCode::out_of_range,
                 "the template writes more than " + std::to_string(limits_.max_output) + " bytes"};
  }
  PONDER_CHECK_OK(charge_bytes(text.cost()));
  out.append(text);
  return {};
}

Result<void> Evaluator::check_depth() {
  if (depth_ > limits_.max_depth) {
    return Error{ErrorCode::out_of_range,
                 "the template nests too deep (more than " + std::to_string(limits_.max_depth) + " levels)"};
  }
  return {};
}

Result<Evaluator::Flow> Evaluator::exec(const Body& body, Scope& scope, Text& out) {
  for (const Stmt& s : body) {
    ++depth_;
    Result<void> allowed = charge_steps(1);
    if (allowed) allowed = check_depth();
    Result<Flow> flow = allowed ? exec_one(s, scope, out) : Result<Flow>(allowed.error());
    --depth_;
    if (!flow) {
      if (located_) return flow;
      located_ = true;
      return error_at(flow.error().code, s.place, flow.error().message);
    }
    if (*flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Result<Evaluator::Flow> Evaluator::exec_one(const Stmt& s, Scope& scope, Text& out) {
  switch (s.kind) {
    case StmtKind::text:
      PONDER_CHECK_OK(write(out, s.literal.as_text()));
      break;
    case StmtKind::output: {
      PONDER_TRY(const Value value, eval(*s.expr, scope));
      if (value.is_string()) {
        PONDER_CHECK_OK(write(out, value.as_text()));
      } else {
        PONDER_CHECK_OK(write(out, to_text(value)));
      }
      break;
    }
    case StmtKind::for_:
      return exec_for(s, scope, out);
    case StmtKind::if_:
      for (const Stmt::Branch& branch : s.branches) {
        if (branch.condition != nullptr) {
          PONDER_TRY(const Value condition, eval(*branch.condition, scope));
          if (!truthy(condition)) continue;
        }
        return exec(branch.body, scope, out);
      }
      break;
    case StmtKind::set: {
      PONDER_TRY(const Value value, eval(*s.expr, scope));
      PONDER_CHECK_OK(assign(s.target, value, scope));
      break;
    }
    case StmtKind::set_block:
    case StmtKind::filter_block: {
      Text text;
      Scope* inner = open_scope(&scope);
      PONDER_TRY(const Flow flow, exec(s.body, *inner, text));
      close_scope(inner);
      if (flow != Flow::normal) return flow;
      Value value(std::move(text));
      if (s.expr != nullptr) {
        PONDER_TRY(value, through_filters(*s.expr, value, scope));
      }
      if (s.kind == StmtKind::set_block) {
        PONDER_CHECK_OK(assign(s.target, value, scope));
      } else {
        PONDER_CHECK_OK(write(out, to_text(value)));
      }
      break;
    }
    case StmtKind::macro:
    case StmtKind::call_block: {
      PONDER_CHECK_OK(charge_bytes(sizeof(Macro) + 64));
      auto object = std::make_unique<Macro>();
      object->statement = &s;
      object->scope = &scope;
      for (Scope* up = &scope; up != nullptr && !up->captured; up = up->parent) up->captured = true;
      const Value macro(keep(std::move(object)));
      if (s.kind == StmtKind::macro) {
        scope.set(s.symbol, macro);
      } else {
        PONDER_TRY(const Value value, eval_call(*s.expr, scope, &macro));
        PONDER_CHECK_OK(write(out, to_text(value)));
      }
      break;
    }
    case StmtKind::scope: {
      Scope* inner = open_scope(&scope);
      for (const auto& [target, expr] : s.assignments) {
        PONDER_TRY(const Value value, eval(*expr, scope));
        PONDER_CHECK_OK(assign(target, value, *inner));
      }
      Result<Flow> flow = exec(s.body, *inner, out);
      close_scope(inner);
      return flow;
    }
    case StmtKind::break_:
      return Flow::break_;
    case StmtKind::continue_:
      return Flow::continue_;
  }
  return Flow::normal;
}

Result<void> Evaluator::assign(const Target& target, const Value& value, Scope& scope) {
  if (!target.several.empty()) {
    PONDER_TRY(const Value::Lists items, iterate(value));
    if (items->items.size() != target.several.size()) {
      return bad_argument("cannot unpack " + std::to_string(items->items.size()) + " values into " +
                          std::to_string(target.several.size()) + " names");
    }
    for (size_t i = 0; i < items->items.size(); ++i) PONDER_CHECK_OK(assign(target.several[i], items->items[i], scope));
    return {};
  }
  if (target.attribute.empty()) {
    scope.set(target.symbol, value);
    return {};
  }
  for (Scope* s = &scope; s != nullptr; s = s->parent) {
    Value* holder = s->find(target.symbol);
    if (holder == nullptr) continue;
    auto* ns = holder->is_object() ? dynamic_cast<Namespace*>(holder->as_object()) : nullptr;
    if (ns == nullptr) break;
    if (Value* known = ns->find(target.attribute)) {
      *known = value;
    } else {
      PONDER_CHECK_OK(charge_bytes(64));
      ns->values.emplace_back(target.attribute, value);
    }
    return {};
  }
  return bad_argument("cannot set an attribute of '" + program_.symbols[size_t(target.symbol)] +
                      "', which is not a namespace");
}

Result<bool> Evaluator::fill(Loop& loop, size_t count) {
  while (loop.ahead.size() < count) {
    if (loop.scope == nullptr || loop.next >= loop.source->items.size()) return false;
    PONDER_CHECK_OK(charge_steps(1));
    const Value& candidate = loop.source->items[loop.next++];
    if (loop.statement->condition != nullptr) {
      Scope* inner = open_scope(loop.scope);
      PONDER_CHECK_OK(assign(loop.statement->target, candidate, *inner));
      PONDER_TRY(const Value holds, eval(*loop.statement->condition, *inner));
      close_scope(inner);
      if (!truthy(holds)) continue;
    }
    loop.ahead.push_back(candidate);
  }
  return true;
}

Result<Evaluator::Flow> Evaluator::exec_for(const Stmt& s, Scope& scope, Text& out) {
  PONDER_TRY(const Value sequence, eval(*s.expr, scope));
  Loop on_stack;
  Loop* loop = &on_stack;
  if (loop_symbol_ >= 0) {                              // only then can anything keep it
    PONDER_CHECK_OK(charge_bytes(sizeof(Loop) + 640));  // with its deque's first block
    loop = static_cast<Loop*>(keep(std::make_unique<Loop>()));
  }
  PONDER_TRY(loop->source, iterate(sequence));
  loop->statement = &s;
  loop->scope = &scope;
  loop->depth = ++loop_depth_;
  Result<Flow> result = Flow::normal;
  while (true) {
    const Result<bool> more = fill(*loop, 1);
    if (!more) {
      result = more.error();
      break;
    }
    if (!*more) break;
    loop->has_previous = loop->index0 >= 0;
    loop->previous = std::move(loop->current);
    loop->current = std::move(loop->ahead.front());
    loop->ahead.pop_front();
    ++loop->index0;
    Scope* inner = open_scope(&scope);
    if (loop_symbol_ >= 0) inner->set(loop_symbol_, Value(static_cast<Object*>(loop)));
    if (const Result<void> assigned = assign(s.target, loop->current, *inner); !assigned) {
      result = assigned.error();
      break;
    }
    const Result<Flow> flow = exec(s.body, *inner, out);
    close_scope(inner);
    if (!flow) {
      result = flow;
      break;
    }
    if (*flow == Flow::break_) break;
  }
  --loop_depth_;
  const bool empty = loop->index0 < 0;
  loop->scope = nullptr;
  loop->source.reset();
  if (!result || !empty || s.else_body.empty()) return result;
  Scope* inner = open_scope(&scope);
  result = exec(s.else_body, *inner, out);
  close_scope(inner);
  return result;
}

}  // namespace ponder::chat::jinja
