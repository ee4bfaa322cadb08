// Expressions, by recursive descent: one function per level of precedence. See ast.h for the nodes
// and parser_statements.cpp for the tags. Why this file is long: the levels call each other and
// read best in one place.
#include "chat/jinja/parser.h"

#include <charconv>
#include <cstdlib>

#include "base/utf8.h"
#include "chat/jinja/parser_impl.h"

namespace ponder::chat::jinja {
namespace {

struct DepthGuard {
  int& depth;
  explicit DepthGuard(int& d) : depth(d) { ++depth; }
  ~DepthGuard() { --depth; }
};

}  // namespace

bool Parser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  advance();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  advance();
  return true;
}

std::string Parser::found() const {
  switch (now().type) {
    case TokenType::end:
      return "the end of the template";
    case TokenType::variable_end:
      return "'}}'";
    case TokenType::block_end:
      return "'%}'";
    case TokenType::string:
      return "a string";
    case TokenType::data:
      return "text";
    default:
      return "'" + now().text + "'";
  }
}

Result<void> Parser::expect_op(std::string_view op) {
  if (skip_op(op)) return {};
  return fail("expected '" + std::string(op) + "', found " + found());
}

Result<void> Parser::expect_name(std::string_view name) {
  if (skip_name(name)) return {};
  return fail("expected '" + std::string(name) + "', found " + found());
}

Result<std::string> Parser::expect_any_name(std::string_view what) {
  if (now().type != TokenType::name) return fail("expected " + std::string(what) + ", found " + found());
  std::string name = now().text;
  advance();
  return name;
}

int Parser::symbol(const std::string& name) {
  const auto [it, added] = symbol_numbers_.try_emplace(name, int(program_->symbols.size()));
  if (added) program_->symbols.push_back(name);
  return it->second;
}

ExprPtr Parser::make(ExprKind kind, Place place) {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->place = place;
  return e;
}

Result<ExprPtr> Parser::finish(ExprPtr e) const {
  const auto grow = [&](const ExprPtr& child) {
    if (child != nullptr) e->height = std::max(e->height, child->height + 1);
  };
  for (const ExprPtr& child : e->children) grow(child);
  if (e->arguments != nullptr) {
    for (const ExprPtr& child : e->arguments->positional) grow(child);
    for (const auto& named : e->arguments->named) grow(named.second);
    grow(e->arguments->rest);
    grow(e->arguments->rest_named);
  }
  if (e->height > kMaxHeight) return error_at(ErrorCode::invalid_file, e->place, "this expression is nested too deep");
  return e;
}

Result<ExprPtr> Parser::expression(bool with_conditional) { return with_conditional ? conditional() : or_(); }

Result<ExprPtr> Parser::conditional() {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxDepth) return fail("this expression is nested too deep");
  const Place place = now().place;
  PONDER_TRY(ExprPtr value, or_());
  while (skip_name("if")) {
    ExprPtr e = make(ExprKind::conditional, place);
    e->children.resize(3);
    e->children[0] = std::move(value);
    PONDER_TRY(e->children[1], or_());
    if (skip_name("else")) {
      PONDER_TRY(e->children[2], conditional());
    }
    PONDER_TRY(value, finish(std::move(e)));
  }
  return value;
}

Result<ExprPtr> Parser::or_() {
  PONDER_TRY(ExprPtr first, and_());
  if (!is_name("or")) return first;
  ExprPtr e = make(ExprKind::or_, first->place);
  e->children.push_back(std::move(first));
  while (skip_name("or")) {
    PONDER_TRY(ExprPtr other, and_());
    e->children.push_back(std::move(other));
  }
  return finish(std::move(e));
}

Result<ExprPtr> Parser::and_() {
  PONDER_TRY(ExprPtr first, not_());
  if (!is_name("and")) return first;
  ExprPtr e = make(ExprKind::and_, first->place);
  e->children.push_back(std::move(first));
  while (skip_name("and")) {
    PONDER_TRY(ExprPtr other, not_());
    e->children.push_back(std::move(other));
  }
  return finish(std::move(e));
}

Result<ExprPtr> Parser::not_() {
  if (!is_name("not")) return compare();
  const DepthGuard guard(depth_);
  if (depth_ > kMaxDepth) return fail("this expression is nested too deep");
  ExprPtr e = make(ExprKind::not_, now().place);
  advance();
  PONDER_TRY(ExprPtr operand, not_());
  e->children.push_back(std::move(operand));
  return finish(std::move(e));
}

Result<ExprPtr> Parser::compare() {
  PONDER_TRY(ExprPtr first, sum());
  ExprPtr e;
  while (true) {
    static constexpr std::pair<std::string_view, Op> kOps[] = {{"==", Op::eq}, {"!=", Op::ne}, {"<", Op::lt},
                                                               {"<=", Op::le}, {">", Op::gt},  {">=", Op::ge}};
    std::optional<Op> op;
    for (const auto& [text, value] : kOps) {
      if (is_op(text)) op = value;
    }
    if (is_name("in")) op = Op::in;
    if (is_name("not") && next_token().type == TokenType::name && next_token().text == "in") {
      op = Op::not_in;
      advance();
    }
    if (!op) break;
    advance();
    PONDER_TRY(ExprPtr other, sum());
    if (e == nullptr) {
      e = make(ExprKind::compare, first->place);
      e->children.push_back(std::move(first));
    }
    e->ops.push_back(*op);
    e->children.push_back(std::move(other));
  }
  if (e == nullptr) return first;
  return finish(std::move(e));
}

Result<ExprPtr> Parser::chain(ExprKind kind, Rule operand, std::initializer_list<std::pair<std::string_view, Op>> ops) {
  PONDER_TRY(ExprPtr first, (this->*operand)());
  ExprPtr e;
  while (now().type == TokenType::op) {
    std::optional<Op> op;
    for (const auto& [text, value] : ops) {
      if (is_op(text)) op = value;
    }
    if (!op) break;
    advance();
    PONDER_TRY(ExprPtr other, (this->*operand)());
    if (e == nullptr) {
      e = make(kind, first->place);
      e->children.push_back(std::move(first));
    }
    e->ops.push_back(*op);
    e->children.push_back(std::move(other));
  }
  if (e == nullptr) return first;
  return finish(std::move(e));
}

Result<ExprPtr> Parser::sum() { return chain(ExprKind::chain, &Parser::concat, {{"+", Op::add}, {"-", Op::sub}}); }

Result<ExprPtr> Parser::concat() { return chain(ExprKind::concat, &Parser::product, {{"~", Op::add}}); }

Result<ExprPtr> Parser::product() {
  return chain(ExprKind::chain, &Parser::power,
               {{"*", Op::mul}, {"/", Op::div}, {"//", Op::floor_div}, {"%", Op::mod}});
}

Result<ExprPtr> Parser::power() { return chain(ExprKind::chain, &Parser::filtered_unary, {{"**", Op::power}}); }

Result<ExprPtr> Parser::unary(bool with_filter) {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxDepth) return fail("this expression is nested too deep");
  ExprPtr e;
  if (is_op("-") || is_op("+")) {
    e = make(is_op("-") ? ExprKind::negate : ExprKind::plus, now().place);
    advance();
    PONDER_TRY(ExprPtr operand, unary(false));
    e->children.push_back(std::move(operand));
    PONDER_TRY(e, finish(std::move(e)));
  } else {
    PONDER_TRY(e, primary());
  }
  PONDER_TRY(e, postfix(std::move(e)));
  return with_filter ? postfix_filters(std::move(e)) : std::move(e);
}

Result<ExprPtr> Parser::primary() {
  const Token& token = now();
  const Place place = token.place;
  ExprPtr e = make(ExprKind::constant, place);
  switch (token.type) {
    case TokenType::name: {
      const std::string name = token.text;
      advance();
      if (name == "true" || name == "True") {
        e->constant = true;
      } else if (name == "false" || name == "False") {
        e->constant = false;
      } else if (name != "none" && name != "None") {
        e->kind = ExprKind::name;
        e->symbol = symbol(name);
      }
      return e;
    }
    case TokenType::string: {
      std::string value;
      while (now().type == TokenType::string) {
        value += now().text;
        advance();
      }
      e->constant = Value::literal(std::move(value));
      return e;
    }
    case TokenType::integer: {
      int64_t value = 0;
      std::string digits = token.text;
      int base = 10;
      if (digits.size() > 2 && digits[0] == '0' && !std::isdigit(uint8_t(digits[1]))) {
        base = (digits[1] | 0x20) == 'x' ? 16 : (digits[1] | 0x20) == 'o' ? 8 : 2;
        std::erase(digits, '_');
        digits = digits.substr(2);
      }
      const auto r = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
      if (r.ec != std::errc() || r.ptr != digits.data() + digits.size()) {
        return fail("the number " + token.text + " is not a 64-bit integer");
      }
      advance();
      e->constant = value;
      return e;
    }
    case TokenType::floating: {
      double value = 0;
      const std::string& digits = token.text;
      if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc()) {
        return fail("the number " + digits + " is out of range");
      }
      advance();
      e->constant = value;
      return e;
    }
    case TokenType::op:
      if (token.text == "(") {
        advance();
        PONDER_TRY(ExprPtr inner, tuple(true, true));
        PONDER_CHECK_OK(expect_op(")"));
        return inner;
      }
      if (token.text == "[") return list();
      if (token.text == "{") return dict();
      break;
    default:
      break;
  }
  return fail("expected an expression, found " + found());
}

Result<ExprPtr> Parser::tuple(bool with_conditional, bool in_parentheses) {
  const Place place = now().place;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  const auto ended = [&] {
    return now().type == TokenType::variable_end || now().type == TokenType::block_end || is_op(")") ||
           is_name("recursive");
  };
  while (!ended()) {
    PONDER_TRY(ExprPtr item, expression(with_conditional));
    items.push_back(std::move(item));
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && items.size() == 1) return std::move(items[0]);
  if (items.empty() && !in_parentheses) return fail("expected an expression, found " + found());
  ExprPtr e = make(ExprKind::tuple, place);
  e->children = std::move(items);
  return finish(std::move(e));
}

Result<ExprPtr> Parser::list() {
  ExprPtr e = make(ExprKind::list, now().place);
  PONDER_CHECK_OK(expect_op("["));
  while (!is_op("]")) {
    PONDER_TRY(ExprPtr item, expression());
    e->children.push_back(std::move(item));
    if (!skip_op(",")) break;
  }
  PONDER_CHECK_OK(expect_op("]"));
  return finish(std::move(e));
}

Result<ExprPtr> Parser::dict() {
  ExprPtr e = make(ExprKind::dict, now().place);
  PONDER_CHECK_OK(expect_op("{"));
  while (!is_op("}")) {
    PONDER_TRY(ExprPtr key, expression());
    PONDER_CHECK_OK(expect_op(":"));
    PONDER_TRY(ExprPtr value, expression());
    e->children.push_back(std::move(key));
    e->children.push_back(std::move(value));
    if (!skip_op(",")) break;
  }
  PONDER_CHECK_OK(expect_op("}"));
  return finish(std::move(e));
}

Result<ExprPtr> Parser::postfix(ExprPtr e) {
  while (true) {
    if (is_op(".") || is_op("[")) {
      PONDER_TRY(e, subscript(std::move(e)));
    } else if (is_op("(")) {
      ExprPtr call = make(ExprKind::call, e->place);
      PONDER_TRY(call->arguments, arguments());
      call->children.push_back(std::move(e));
      PONDER_TRY(e, finish(std::move(call)));
    } else {
      return e;
    }
  }
}

Result<ExprPtr> Parser::postfix_filters(ExprPtr e) {
  while (true) {
    if (is_op("|")) {
      PONDER_TRY(e, filters(std::move(e)));
    } else if (is_name("is")) {
      PONDER_TRY(e, test(std::move(e)));
    } else if (is_op("(")) {
      ExprPtr call = make(ExprKind::call, e->place);
      PONDER_TRY(call->arguments, arguments());
      call->children.push_back(std::move(e));
      PONDER_TRY(e, finish(std::move(call)));
    } else {
      return e;
    }
  }
}

Result<ExprPtr> Parser::subscript(ExprPtr target) {
  const Place place = now().place;
  if (skip_op(".")) {
    ExprPtr e = make(ExprKind::attribute, place);
    e->children.push_back(std::move(target));
    if (now().type == TokenType::integer) {  // x.0 is x[0]
      e->kind = ExprKind::item;
      PONDER_TRY(ExprPtr index, primary());
      e->children.push_back(std::move(index));
      return finish(std::move(e));
    }
    PONDER_TRY(e->text, expect_any_name("a name after '.'"));
    return finish(std::move(e));
  }
  PONDER_CHECK_OK(expect_op("["));
  ExprPtr start;
  if (!is_op(":")) {
    PONDER_TRY(start, expression());
    if (skip_op("]")) {
      ExprPtr e = make(ExprKind::item, place);
      e->children.push_back(std::move(target));
      e->children.push_back(std::move(start));
      return finish(std::move(e));
    }
  }
  ExprPtr e = make(ExprKind::slice, place);
  e->children.resize(4);
  e->children[0] = std::move(target);
  e->children[1] = std::move(start);
  PONDER_CHECK_OK(expect_op(":"));
  if (!is_op(":") && !is_op("]")) {
    PONDER_TRY(e->children[2], expression());
  }
  if (skip_op(":") && !is_op("]")) {
    PONDER_TRY(e->children[3], expression());
  }
  PONDER_CHECK_OK(expect_op("]"));
  return finish(std::move(e));
}

Result<ExprPtr> Parser::filters(ExprPtr e, bool starts_here) {
  while (starts_here || is_op("|")) {
    if (!starts_here) advance();
    starts_here = false;
    ExprPtr filter = make(ExprKind::filter, now().place);
    PONDER_TRY(filter->text, expect_any_name("a filter's name"));
    while (skip_op(".")) {
      PONDER_TRY(const std::string part, expect_any_name("a filter's name"));
      filter->text += "." + part;
    }
    if (is_op("(")) {
      PONDER_TRY(filter->arguments, arguments());
    } else {
      filter->arguments = std::make_unique<Arguments>();
    }
    filter->children.push_back(std::move(e));
    PONDER_TRY(e, finish(std::move(filter)));
  }
  return e;
}

Result<ExprPtr> Parser::test(ExprPtr subject) {
  ExprPtr e = make(ExprKind::test, now().place);
  PONDER_CHECK_OK(expect_name("is"));
  const bool negated = skip_name("not");
  PONDER_TRY(e->text, expect_any_name("a test's name after 'is'"));
  while (skip_op(".")) {
    PONDER_TRY(const std::string part, expect_any_name("a test's name"));
    e->text += "." + part;
  }
  e->arguments = std::make_unique<Arguments>();
  const TokenType type = now().type;
  const bool value_follows = type == TokenType::string || type == TokenType::integer || type == TokenType::floating ||
                             is_op("[") || is_op("{") ||
                             (type == TokenType::name && !is_name("else") && !is_name("or") && !is_name("and"));
  if (is_op("(")) {
    PONDER_TRY(e->arguments, arguments());
  } else if (value_follows) {
    if (is_name("is")) return fail("tests cannot be chained with 'is'");
    // `x is defined if y` has no argument: the names that may follow a test in an expression end
    // it.
    if (!is_name("if") && !is_name("not") && !is_name("in") && !is_name("recursive")) {
      PONDER_TRY(ExprPtr argument, primary());
      PONDER_TRY(argument, postfix(std::move(argument)));
      e->arguments->positional.push_back(std::move(argument));
    }
  }
  e->children.push_back(std::move(subject));
  PONDER_TRY(e, finish(std::move(e)));
  if (!negated) return e;
  ExprPtr inverse = make(ExprKind::not_, e->place);
  inverse->children.push_back(std::move(e));
  return finish(std::move(inverse));
}

Result<std::unique_ptr<Arguments>> Parser::arguments() {
  auto result = std::make_unique<Arguments>();
  PONDER_CHECK_OK(expect_op("("));
  while (!is_op(")")) {
    if (result->rest_named != nullptr) return fail("nothing may follow **arguments");
    if (skip_op("*")) {
      if (result->rest != nullptr) return fail("*arguments may be given once");
      PONDER_TRY(result->rest, expression());
    } else if (skip_op("**")) {
      PONDER_TRY(result->rest_named, expression());
    } else if (now().type == TokenType::name && next_token().type == TokenType::op && next_token().text == "=") {
      std::string name = now().text;
      advance();
      advance();
      PONDER_TRY(ExprPtr value, expression());
      result->named.emplace_back(std::move(name), std::move(value));
    } else {
      if (result->rest != nullptr || !result->named.empty())
        return fail("a positional argument cannot follow a named one");
      PONDER_TRY(ExprPtr value, expression());
      result->positional.push_back(std::move(value));
    }
    if (!skip_op(",")) break;
  }
  PONDER_CHECK_OK(expect_op(")"));
  return result;
}

Result<std::shared_ptr<const Program>> parse(std::string_view source) {
  if (!utf8::is_valid(source)) return Error{ErrorCode::invalid_file, "the chat template is not valid UTF-8"};
  PONDER_TRY(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace ponder::chat::jinja
