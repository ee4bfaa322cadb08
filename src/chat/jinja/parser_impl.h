// The parser's class, shared by parser.cpp (expressions) and parser_statements.cpp.
#pragma once

#include <initializer_list>
#include <string>
#include <unordered_map>

#include "chat/jinja/parser.h"

namespace ponder::chat::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)), program_(std::make_shared<Program>()) {}
  Result<std::shared_ptr<const Program>> run();

 private:
  // Nesting limits keep the parser's own stack small; no published template comes near them.
  static constexpr int kMaxDepth = 120, kMaxHeight = 400;

  const Token& now() const { return tokens_[at_]; }
  const Token& next_token() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void advance() { at_ += at_ + 1 < tokens_.size(); }
  bool is_op(std::string_view op) const { return now().type == TokenType::op && now().text == op; }
  bool is_name(std::string_view name) const { return now().type == TokenType::name && now().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  Result<void> expect_op(std::string_view op);
  Result<void> expect_name(std::string_view name);
  Result<std::string> expect_any_name(std::string_view what);
  Error fail(std::string_view message) const { return error_at(ErrorCode::invalid_file, now().place, message); }
  std::string found() const;
  int symbol(const std::string& name);

  static ExprPtr make(ExprKind kind, Place place);
  Result<ExprPtr> finish(ExprPtr e) const;  // sets the height, refuses too deep trees

  // Expressions, weakest binding first.
  Result<ExprPtr> expression(bool with_conditional = true);
  Result<ExprPtr> conditional();
  Result<ExprPtr> or_();
  Result<ExprPtr> and_();
  Result<ExprPtr> not_();
  Result<ExprPtr> compare();
  Result<ExprPtr> sum();
  Result<ExprPtr> concat();
  Result<ExprPtr> product();
  Result<ExprPtr> power();
  Result<ExprPtr> unary(bool with_filter = true);
  Result<ExprPtr> filtered_unary() { return unary(true); }
  Result<ExprPtr> primary();
  Result<ExprPtr> postfix(ExprPtr e);
  Result<ExprPtr> filters(ExprPtr e, bool starts_here = false);
  Result<ExprPtr> postfix_filters(ExprPtr e);
  Result<ExprPtr> subscript(ExprPtr e);
  Result<ExprPtr> test(ExprPtr e);
  Result<ExprPtr> tuple(bool with_conditional, bool in_parentheses = false);
  Result<ExprPtr> list();
  Result<ExprPtr> dict();
  Result<std::unique_ptr<Arguments>> arguments();
  using Rule = Result<ExprPtr> (Parser::*)();
  Result<ExprPtr> chain(ExprKind kind, Rule operand, std::initializer_list<std::pair<std::string_view, Op>> ops);

  // Statements.
  Result<Body> body(std::initializer_list<std::string_view> ends);
  Result<void> statement(Body& out);
  Result<Target> target(bool allow_several);
  Result<Stmt> for_statement();
  Result<Stmt> if_statement();
  Result<Stmt> set_statement();
  Result<Stmt> macro_statement();
  Result<Stmt> call_statement();
  Result<Stmt> filter_statement();
  Result<Stmt> with_statement();
  Result<Stmt> generation_statement();
  Result<void> parameters(std::vector<Parameter>& out);
  Result<void> block_end();

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0;
  std::shared_ptr<Program> program_;
  std::unordered_map<std::string, int> symbol_numbers_;
};

}  // namespace ponder::chat::jinja
