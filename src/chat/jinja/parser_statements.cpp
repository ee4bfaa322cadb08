// The tags {% ... %}. See parser.cpp for expressions.
#include "chat/jinja/parser_impl.h"

namespace ponder::chat::jinja {

Result<std::shared_ptr<const Program>> Parser::run() {
  PONDER_TRY(program_->body, body({}));
  return std::shared_ptr<const Program>(program_);
}

Result<void> Parser::block_end() {
  if (now().type != TokenType::block_end) return fail("expected '%}', found " + found());
  advance();
  return {};
}

// Statements up to a tag that begins with one of `ends` (its name is the current token then), or to
// the end of the template when there are none.
Result<Body> Parser::body(std::initializer_list<std::string_view> ends) {
  Body out;
  if (++depth_ > kMaxDepth) return fail("blocks are nested too deep");
  while (now().type != TokenType::end) {
    if (now().type == TokenType::data) {
      Stmt s;
      s.place = now().place;
      s.literal = Value::literal(now().text);
      out.push_back(std::move(s));
      advance();
    } else if (now().type == TokenType::variable_begin) {
      Stmt s;
      s.kind = StmtKind::output;
      s.place = now().place;
      advance();
      PONDER_TRY(s.expr, tuple(true));
      if (now().type != TokenType::variable_end) return fail("expected '}}', found " + found());
      advance();
      out.push_back(std::move(s));
    } else {
      advance();
      for (const std::string_view end : ends) {
        if (is_name(end)) {
          --depth_;
          return out;
        }
      }
      PONDER_CHECK_OK(statement(out));
      PONDER_CHECK_OK(block_end());
    }
  }
  if (ends.size() > 0)
    return fail("{% " + std::string(*(ends.end() - 1)) + " %} is missing at the end of the template");
  --depth_;
  return out;
}

Result<void> Parser::statement(Body& out) {
  const Place place = now().place;
  if (now().type != TokenType::name) return fail("expected a statement, found " + found());
  const std::string name = now().text;
  using StatementRule = Result<Stmt> (Parser::*)();
  static constexpr std::pair<std::string_view, StatementRule> kRules[] = {
      {"for", &Parser::for_statement},   {"if", &Parser::if_statement},
      {"set", &Parser::set_statement},   {"macro", &Parser::macro_statement},
      {"call", &Parser::call_statement}, {"filter", &Parser::filter_statement},
      {"with", &Parser::with_statement}, {"generation", &Parser::generation_statement}};
  for (const auto& [keyword, rule] : kRules) {
    if (name != keyword) continue;
    advance();
    PONDER_TRY(Stmt s, (this->*rule)());
    s.place = place;
    out.push_back(std::move(s));
    return {};
  }
  if (name == "break" || name == "continue") {
    if (loops_ == 0) return fail("{% " + name + " %} outside of a loop");
    advance();
    Stmt s;
    s.place = place;
    s.kind = name == "break" ? StmtKind::break_ : StmtKind::continue_;
    out.push_back(std::move(s));
    return {};
  }
  if (name == "include" || name == "import" || name == "from" || name == "extends" || name == "block") {
    return fail("{% " + name + " %} needs other template files, which a model does not have");
  }
  if (name.starts_with("end") || name == "elif" || name == "else") return fail("{% " + name + " %} has no beginning");
  return fail("unknown statement '" + name + "'");
}

Result<Target> Parser::target(bool allow_several) {
  Target result;
  result.place = now().place;
  std::vector<Target> several;
  bool is_tuple = false;
  while (true) {
    Target one;
    one.place = now().place;
    if (is_op("(")) {
      if (++depth_ > kMaxDepth) return fail("blocks are nested too deep");
      advance();
      PONDER_TRY(one, target(true));
      PONDER_CHECK_OK(expect_op(")"));
      --depth_;
    } else {
      PONDER_TRY(const std::string name, expect_any_name("a variable's name"));
      if (name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None") {
        return fail("cannot assign to '" + name + "'");
      }
      one.symbol = symbol(name);
      if (skip_op(".")) {
        PONDER_TRY(one.attribute, expect_any_name("an attribute's name"));
      }
    }
    several.push_back(std::move(one));
    if (!allow_several || !skip_op(",")) break;
    is_tuple = true;
    if (is_name("in") || is_op("=") || is_op(")")) break;
  }
  if (!is_tuple) return std::move(several[0]);
  result.several = std::move(several);
  return result;
}

Result<Stmt> Parser::for_statement() {
  Stmt s;
  s.kind = StmtKind::for_;
  PONDER_TRY(s.target, target(true));
  PONDER_CHECK_OK(expect_name("in"));
  PONDER_TRY(s.expr, tuple(false));
  if (skip_name("if")) {
    PONDER_TRY(s.condition, expression());
  }
  if (is_name("recursive")) return fail("recursive loops are not supported");
  PONDER_CHECK_OK(block_end());
  ++loops_;
  PONDER_TRY(s.body, body({"else", "endfor"}));
  --loops_;
  if (skip_name("else")) {
    PONDER_CHECK_OK(block_end());
    PONDER_TRY(s.else_body, body({"endfor"}));
  }
  PONDER_CHECK_OK(expect_name("endfor"));
  return s;
}

Result<Stmt> Parser::if_statement() {
  Stmt s;
  s.kind = StmtKind::if_;
  bool last = false;
  while (true) {
    Stmt::Branch branch;
    if (!last) {
      PONDER_TRY(branch.condition, tuple(false));
    }
    PONDER_CHECK_OK(block_end());
    if (last) {
      PONDER_TRY(branch.body, body({"endif"}));
    } else {
      PONDER_TRY(branch.body, body({"elif", "else", "endif"}));
    }
    s.branches.push_back(std::move(branch));
    if (skip_name("endif")) return s;
    last = is_name("else");
    advance();
  }
}

Result<Stmt> Parser::set_statement() {
  Stmt s;
  s.kind = StmtKind::set;
  PONDER_TRY(s.target, target(true));
  if (skip_op("=")) {
    PONDER_TRY(s.expr, tuple(true));
    return s;
  }
  s.kind = StmtKind::set_block;
  PONDER_TRY(s.expr, filters(nullptr));
  PONDER_CHECK_OK(block_end());
  PONDER_TRY(s.body, body({"endset"}));
  PONDER_CHECK_OK(expect_name("endset"));
  return s;
}

Result<void> Parser::parameters(std::vector<Parameter>& out) {
  PONDER_CHECK_OK(expect_op("("));
  while (!is_op(")")) {
    Parameter p;
    PONDER_TRY(p.name, expect_any_name("a parameter's name"));
    p.symbol = symbol(p.name);
    if (skip_op("=")) {
      PONDER_TRY(p.default_value, expression());
    } else if (!out.empty() && out.back().default_value != nullptr) {
      return fail("a parameter without a default cannot follow one with a default");
    }
    out.push_back(std::move(p));
    if (!skip_op(",")) break;
  }
  return expect_op(")");
}

Result<Stmt> Parser::macro_statement() {
  Stmt s;
  s.kind = StmtKind::macro;
  PONDER_TRY(s.text, expect_any_name("the macro's name"));
  s.symbol = symbol(s.text);
  PONDER_CHECK_OK(parameters(s.parameters));
  PONDER_CHECK_OK(block_end());
  const int loops = std::exchange(loops_, 0);
  PONDER_TRY(s.body, body({"endmacro"}));
  loops_ = loops;
  PONDER_CHECK_OK(expect_name("endmacro"));
  return s;
}

Result<Stmt> Parser::call_statement() {
  Stmt s;
  s.kind = StmtKind::call_block;
  if (is_op("(")) PONDER_CHECK_OK(parameters(s.parameters));
  PONDER_TRY(s.expr, unary(true));
  if (s.expr->kind != ExprKind::call) return fail("{% call %} needs a call of a macro");
  PONDER_CHECK_OK(block_end());
  const int loops = std::exchange(loops_, 0);
  PONDER_TRY(s.body, body({"endcall"}));
  loops_ = loops;
  PONDER_CHECK_OK(expect_name("endcall"));
  return s;
}

Result<Stmt> Parser::filter_statement() {
  Stmt s;
  s.kind = StmtKind::filter_block;
  PONDER_TRY(s.expr, filters(nullptr, true));
  PONDER_CHECK_OK(block_end());
  PONDER_TRY(s.body, body({"endfilter"}));
  PONDER_CHECK_OK(expect_name("endfilter"));
  return s;
}

Result<Stmt> Parser::with_statement() {
  Stmt s;
  s.kind = StmtKind::scope;
  while (now().type != TokenType::block_end) {
    PONDER_TRY(Target t, target(false));
    PONDER_CHECK_OK(expect_op("="));
    PONDER_TRY(ExprPtr value, expression());
    s.assignments.emplace_back(std::move(t), std::move(value));
    if (!skip_op(",")) break;
  }
  PONDER_CHECK_OK(block_end());
  PONDER_TRY(s.body, body({"endwith"}));
  PONDER_CHECK_OK(expect_name("endwith"));
  return s;
}

// {% generation %} marks what the assistant wrote, for training; its text is rendered as it stands.
Result<Stmt> Parser::generation_statement() {
  Stmt s;
  s.kind = StmtKind::scope;
  PONDER_CHECK_OK(block_end());
  PONDER_TRY(s.body, body({"endgeneration"}));
  PONDER_CHECK_OK(expect_name("endgeneration"));
  return s;
}

}  // namespace ponder::chat::jinja
