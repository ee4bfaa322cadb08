// Runs a compiled template. One Evaluator is one rendering: it owns every object the template
// makes, counts its steps and bytes, and stops with an Error when a limit is reached.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "chat/chat.h"
#include "chat/jinja/ast.h"
#include "chat/jinja/context.h"

namespace ponder::chat::jinja {

/// Variables of one block. A scope that a macro remembers lives as long as the rendering, others
/// are reused.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> variables;  // symbol, value
  bool captured = false;

  Value* find(int symbol);
  void set(int symbol, Value value);
};

class Evaluator;

struct Macro : Object {
  std::string_view type_name() const override { return "macro"; }
  bool callable() const override { return true; }
  const Stmt* statement = nullptr;
  Scope* scope = nullptr;
};

struct BoundMethod : Object {
  std::string_view type_name() const override { return "method"; }
  bool callable() const override { return true; }
  Value self;
  std::string name;
};

/// The variable `loop`. Items are drawn as they are needed, so that a filter's condition sees what
/// the body changed.
struct Loop : Object {
  std::string_view type_name() const override { return "loop"; }
  const Stmt* statement = nullptr;
  Scope* scope = nullptr;  ///< around the loop; null once the loop has ended
  Value::Lists source;
  size_t next = 0;
  std::deque<Value> ahead;
  Value previous, current;
  bool has_previous = false;
  int64_t index0 = -1;
  int depth = 1;
  std::vector<Value> changed;
  bool has_changed = false;
};

class Evaluator : public Context {
 public:
  Evaluator(const Program& program, const RenderLimits& limits, int64_t now);
  /// A variable of the template's outermost scope.
  void set(std::string_view name, Value value);
  Result<Text> run();

  Result<void> charge_steps(uint64_t steps) override;
  Result<void> charge_bytes(uint64_t bytes) override;
  Object* keep(std::unique_ptr<Object> object) override;
  Result<Value> call(const Value& callee, CallArgs args) override;
  Result<Value> filter(std::string_view name, const Value& subject, CallArgs args) override;
  Result<bool> test(std::string_view name, const Value& subject, CallArgs args) override;
  Result<Value> attribute(const Value& subject, std::string_view name) override;
  Result<Value> item(const Value& subject, const Value& key) override;
  Result<Value::Lists> iterate(const Value& subject) override;
  int64_t now() const override { return now_; }

 private:
  enum class Flow { normal, break_, continue_ };

  // Expressions.
  Result<Value> eval(const Expr& e, Scope& scope);
  Result<Value> eval_inner(const Expr& e, Scope& scope);
  Result<Value> eval_name(const Expr& e, Scope& scope);
  Result<Value> eval_slice(const Expr& e, Scope& scope);
  Result<Value> eval_chain(const Expr& e, Scope& scope);
  Result<Value> eval_compare(const Expr& e, Scope& scope);
  Result<Value> eval_call(const Expr& e, Scope& scope, const Value* caller = nullptr);
  Result<CallArgs> eval_arguments(const Arguments& arguments, Scope& scope);
  Result<Value> through_filters(const Expr& e, Value subject, Scope& scope);
  Result<Value> call_macro(const Macro& macro, CallArgs args);
  Result<Value> loop_attribute(Loop& loop, std::string_view name);
  Result<Value> loop_method(Loop& loop, std::string_view name, const CallArgs& args);
  Result<bool> fill(Loop& loop,
                    size_t count);  // draws items until `count` are ahead, or there are no more

  // Statements.
  Result<Flow> exec(const Body& body, Scope& scope, Text& out);
  Result<Flow> exec_one(const Stmt& s, Scope& scope, Text& out);
  Result<Flow> exec_for(const Stmt& s, Scope& scope, Text& out);
  Result<void> assign(const Target& target, const Value& value, Scope& scope);
  Result<void> write(Text& out, const Text& text);
  Result<void> check_depth();

  Scope* open_scope(Scope* parent);
  void close_scope(Scope* scope);

  const Program& program_;
  const RenderLimits& limits_;
  const int64_t now_;
  uint64_t steps_ = 0, bytes_ = 0, scopes_made_ = 0;
  int depth_ = 0, loop_depth_ = 0;
  bool located_ = false;  // the error on its way up has its line and column
  const int loop_symbol_, caller_symbol_, varargs_symbol_, kwargs_symbol_;
  std::vector<std::unique_ptr<Object>> objects_;
  std::vector<std::unique_ptr<Scope>> scopes_;
  std::vector<Scope*> free_scopes_;
  Scope root_;
};

}  // namespace ponder::chat::jinja
