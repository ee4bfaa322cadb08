// The tree of a compiled template. Left-associated chains (a + b + c, a ~ b, x and y) are one node
// with many children, and every node knows its height, so that no walk over the tree can run out of
// stack.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/jinja/lexer.h"
#include "chat/jinja/value.h"

namespace ponder::chat::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<Stmt>;

enum class Op { add, sub, mul, div, floor_div, mod, power, eq, ne, lt, le, gt, ge, in, not_in };

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr rest, rest_named;  ///< *args, **kwargs
};

enum class ExprKind {
  constant,  ///< constant
  name,      ///< symbol
  list,
  tuple,      ///< children
  dict,       ///< children: key, value, key, value, ...
  attribute,  ///< children[0] . text
  item,       ///< children[0] [children[1]]
  slice,      ///< children[0] [children[1] : children[2] : children[3]], each may be null
  call,       ///< children[0] (arguments)
  filter,     ///< children[0] (null inside a filter block) | text (arguments)
  test,       ///< children[0] is text (arguments)
  negate,
  plus,
  not_,
  chain,    ///< children[0] ops[0] children[1] ops[1] ...
  compare,  ///< the same with comparison operators, all of which must hold
  concat,   ///< children joined by ~
  and_,
  or_,          ///< children
  conditional,  ///< children[0] if children[1] else children[2] (may be null)
};

struct Expr {
  ExprKind kind = ExprKind::constant;
  Place place;
  int height = 1;
  int symbol = -1;
  Value constant = None{};
  std::string text;
  std::vector<ExprPtr> children;
  std::vector<Op> ops;
  std::unique_ptr<Arguments> arguments;
};

/// Where a value goes: a name, ns.attribute, or several of them.
struct Target {
  Place place;
  int symbol = -1;
  std::string attribute;        ///< not empty: attribute of the namespace `symbol`
  std::vector<Target> several;  ///< not empty: unpack
};

struct Parameter {
  int symbol;
  std::string name;
  ExprPtr default_value;  ///< may be null
};

enum class StmtKind {
  text,          ///< literal
  output,        ///< expr
  for_,          ///< target in expr [if condition]: body, else_body
  if_,           ///< branches (condition null: else)
  set,           ///< target = expr
  set_block,     ///< target = body, through the filters of expr (may be null)
  macro,         ///< symbol, text, parameters, body
  call_block,    ///< expr is a call, given a caller made of parameters and body
  filter_block,  ///< body through the filters of expr
  scope,         ///< targets = values, then body: {% with %} and {% generation %}
  break_,
  continue_,
};

struct Stmt {
  StmtKind kind = StmtKind::text;
  Place place;
  Value literal = None{};
  ExprPtr expr, condition;
  Target target;
  int symbol = -1;
  std::string text;
  std::vector<Parameter> parameters;
  bool uses_caller = false;
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body, else_body;
  struct Branch;
  std::vector<Branch> branches;
};

struct Stmt::Branch {
  ExprPtr condition;
  Body body;
};

struct Program {
  Body body;
  std::vector<std::string> symbols;  ///< names by number

  int find(std::string_view name) const {
    for (size_t i = 0; i < symbols.size(); ++i) {
      if (symbols[i] == name) return int(i);
    }
    return -1;
  }
};

}  // namespace ponder::chat::jinja
