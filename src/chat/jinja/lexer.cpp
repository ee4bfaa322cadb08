// Two levels: outside of tags text runs to the next "{{", "{%" or "{#"; inside, ordinary tokens
// follow until the closing mark at bracket level zero. White space next to a tag is settled here,
// so that the parser never sees it.
#include "chat/jinja/lexer.h"

#include <cctype>

#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace ponder::chat::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

bool name_start(char c) { return std::isalpha(uint8_t(c)) || c == '_' || uint8_t(c) >= 0x80; }
bool name_part(char c) { return name_start(c) || std::isdigit(uint8_t(c)); }

size_t skip_space(std::string_view s, size_t i) {
  while (i < s.size()) {
    const utf8::Decoded d = utf8::decode(s.substr(i));
    if (!is_space(d.code_point)) break;
    i += d.length;
  }
  return i;
}

size_t rstrip_end(std::string_view s) {
  size_t end = s.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && (uint8_t(s[start]) & 0xC0) == 0x80) --start;
    if (!is_space(utf8::decode(s.substr(start)).code_point)) break;
    end = start;
  }
  return end;
}

class Lexer {
 public:
  explicit Lexer(std::string_view raw) {
    // \r\n and \r become \n, as Jinja2 does, and one newline at the end is dropped.
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] == '\r') {
        source_ += '\n';
        if (i + 1 < raw.size() && raw[i + 1] == '\n') ++i;
      } else {
        source_ += raw[i];
      }
    }
    if (!source_.empty() && source_.back() == '\n') source_.pop_back();
    s_ = source_;
  }

  Result<std::vector<Token>> run() {
    while (i_ < s_.size()) PONDER_CHECK_OK(outside());
    add(TokenType::end, "", s_.size());
    return std::move(tokens_);
  }

 private:
  Place place(size_t at) {  // positions only grow
    for (; counted_ < at; ++counted_) {
      if (s_[counted_] == '\n') {
        ++line_;
        line_start_ = counted_ + 1;
      }
    }
    return {line_, int(at - line_start_) + 1};
  }

  void add(TokenType type, std::string text, size_t at) { tokens_.push_back({type, std::move(text), place(at)}); }

  Error fail(size_t at, std::string_view message) { return error_at(ErrorCode::invalid_file, place(at), message); }

  bool at(std::string_view what, size_t i) const { return s_.substr(std::min(i, s_.size())).starts_with(what); }

  // Text up to the next tag; `sign` is the character after the tag's opening, which rules the white
  // space before it.
  void add_data(size_t end, char sign, bool is_variable) {
    std::string_view text = s_.substr(i_, end - i_);
    if (sign == '-') {
      text = text.substr(0, rstrip_end(text));
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == kNone ? 0 : newline + 1;
      if ((line > 0 || line_starting_) && skip_space(text, line) == text.size()) text = text.substr(0, line);
    }
    if (!text.empty()) add(TokenType::data, std::string(text), i_);
  }

  // After a block, comment or endraw: "-" swallows all white space, "+" nothing, else one newline.
  size_t after_close(size_t end, char sign) const {
    if (sign == '-') return skip_space(s_, end);
    if (sign != '+' && end < s_.size() && s_[end] == '\n') return end + 1;
    return end;
  }

  void go(size_t to) {
    line_starting_ = to > 0 && to > i_ && s_[to - 1] == '\n';
    i_ = to;
  }

  Result<void> outside() {
    size_t tag = i_;
    while (true) {
      tag = s_.find('{', tag);
      if (tag == kNone || tag + 1 >= s_.size()) {
        add(TokenType::data, std::string(s_.substr(i_)), i_);
        i_ = s_.size();
        return {};
      }
      if (s_[tag + 1] == '{' || s_[tag + 1] == '%' || s_[tag + 1] == '#') break;
      ++tag;
    }
    const char kind = s_[tag + 1];
    const char sign = tag + 2 < s_.size() && (s_[tag + 2] == '-' || s_[tag + 2] == '+') ? s_[tag + 2] : ' ';
    add_data(tag, sign, kind == '{');
    const size_t inside = tag + 2 + (sign != ' ');
    if (kind == '#') return comment(tag, tag + 2);
    if (kind == '%') {
      const size_t word = skip_space(s_, inside);
      if (at("raw", word)) {
        const size_t close = skip_space(s_, word + 3);
        if (at("%}", close) || at("-%}", close)) return raw(tag, close);
      }
    }
    add(kind == '{' ? TokenType::variable_begin : TokenType::block_begin, "", tag);
    go(inside);
    return expression(kind == '{');
  }

  Result<void> comment(size_t tag, size_t from) {
    const size_t close = s_.find("#}", from);
    if (close == kNone) return fail(tag, "a comment that begins here has no closing #}");
    const char sign = close > from ? s_[close - 1] : ' ';
    go(after_close(close + 2, sign));
    return {};
  }

  Result<void> raw(size_t tag, size_t close) {
    const size_t body = at("-%}", close) ? skip_space(s_, close + 3) : close + 2;
    for (size_t end = body; (end = s_.find("{%", end)) != kNone; end += 2) {
      const char open_sign = end + 2 < s_.size() && (s_[end + 2] == '-' || s_[end + 2] == '+') ? s_[end + 2] : ' ';
      const size_t word = skip_space(s_, end + 2 + (open_sign != ' '));
      if (!at("endraw", word)) continue;
      size_t stop = skip_space(s_, word + 6);
      const char sign = at("-%}", stop) ? '-' : at("+%}", stop) ? '+' : ' ';
      stop += sign != ' ';
      if (!at("%}", stop)) continue;
      go(body);
      add_data(end, open_sign, false);
      go(after_close(stop + 2, sign));
      return {};
    }
    return fail(tag, "{% raw %} has no {% endraw %}");
  }

  // Tokens of one tag, up to its closing mark.
  Result<void> expression(bool is_variable) {
    const size_t tag = i_;
    std::string brackets;
    while (true) {
      i_ = skip_space(s_, i_);
      if (i_ >= s_.size()) return fail(tag, is_variable ? "{{ has no closing }}" : "{% has no closing %}");
      if (brackets.empty()) {
        const bool signed_end = s_[i_] == '-' || (s_[i_] == '+' && !is_variable);
        const size_t mark = i_ + signed_end;
        if (at(is_variable ? "}}" : "%}", mark)) {
          add(is_variable ? TokenType::variable_end : TokenType::block_end, "", i_);
          const char sign = signed_end ? s_[i_] : ' ';
          if (!is_variable) {
            go(after_close(mark + 2, sign));
          } else {
            go(sign == '-' ? skip_space(s_, mark + 2) : mark + 2);
          }
          return {};
        }
      }
      PONDER_CHECK_OK(token(brackets));
    }
  }

  Result<void> token(std::string& brackets) {
    const char c = s_[i_];
    if (std::isdigit(uint8_t(c))) return number();
    if (name_start(c)) {
      size_t end = i_;
      while (end < s_.size() && name_part(s_[end])) ++end;
      add(TokenType::name, std::string(s_.substr(i_, end - i_)), i_);
      i_ = end;
      return {};
    }
    if (c == '\'' || c == '"') return string();
    static constexpr std::string_view kOperators[] = {"==", "!=", ">=", "<=", "//", "**", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!at(op, i_)) continue;
      if (c == '(' || c == '[' || c == '{') {
        brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
        if (brackets.size() > 1000) return fail(i_, "brackets are nested too deep");
      } else if (c == ')' || c == ']' || c == '}') {
        if (brackets.empty() || brackets.back() != c) return fail(i_, std::string("unexpected '") + c + "'");
        brackets.pop_back();
      }
      add(TokenType::op, std::string(op), i_);
      i_ += op.size();
      return {};
    }
    return fail(i_, std::string("unexpected character '") + c + "'");
  }

  Result<void> number() {
    size_t end = i_;
    const bool based = s_[i_] == '0' && end + 1 < s_.size() && std::isalpha(uint8_t(s_[end + 1])) &&
                       std::string_view("xXoObB").find(s_[end + 1]) != kNone;
    if (based) {
      end += 2;
      while (end < s_.size() && (std::isxdigit(uint8_t(s_[end])) || s_[end] == '_')) ++end;
      add(TokenType::integer, std::string(s_.substr(i_, end - i_)), i_);
      i_ = end;
      return {};
    }
    const auto digits = [&] {
      const size_t start = end;
      while (end < s_.size() && (std::isdigit(uint8_t(s_[end])) || (s_[end] == '_' && end > start))) ++end;
      return end > start;
    };
    digits();
    bool floating = false;
    if (end + 1 < s_.size() && s_[end] == '.' && std::isdigit(uint8_t(s_[end + 1]))) {
      floating = true;
      ++end;
      digits();
    }
    if (end < s_.size() && (s_[end] == 'e' || s_[end] == 'E')) {
      const size_t mark = end++;
      if (end < s_.size() && (s_[end] == '+' || s_[end] == '-')) ++end;
      if (digits()) {
        floating = true;
      } else {
        end = mark;
      }
    }
    std::string text;
    for (const char c : s_.substr(i_, end - i_)) {
      if (c != '_') text += c;
    }
    add(floating ? TokenType::floating : TokenType::integer, std::move(text), i_);
    i_ = end;
    return {};
  }

  // Python's escapes; an unknown one stays as written.
  Result<void> string() {
    const char quote = s_[i_];
    const size_t start = i_;
    std::string value;
    size_t i = i_ + 1;
    while (true) {
      if (i >= s_.size()) return fail(start, "a string that begins here is not closed");
      const char c = s_[i];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
        ++i;
        continue;
      }
      if (i + 1 >= s_.size()) return fail(start, "a string that begins here is not closed");
      const char e = s_[i + 1];
      i += 2;
      static constexpr std::string_view kFrom = "abfnrtv\\'\"", kTo = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t k = kFrom.find(e); k != kNone) {
        value += kTo[k];
      } else if (e == '\n') {
      } else if (e >= '0' && e <= '7') {
        char32_t code = char32_t(e - '0');
        for (int k = 0; k < 2 && i < s_.size() && s_[i] >= '0' && s_[i] <= '7'; ++k)
          code = code * 8 + char32_t(s_[i++] - '0');
        utf8::append(value, code);
      } else if (e == 'x' || e == 'u' || e == 'U') {
        const int n = e == 'x' ? 2 : e == 'u' ? 4 : 8;
        char32_t code = 0;
        for (int k = 0; k < n; ++k, ++i) {
          if (i >= s_.size() || !std::isxdigit(uint8_t(s_[i])))
            return fail(start, "a broken \\" + std::string(1, e) + " escape in a string");
          const char h = s_[i];
          code = code * 16 + char32_t(std::isdigit(uint8_t(h)) ? h - '0' : (h | 0x20) - 'a' + 10);
        }
        utf8::append(value, code);
      } else if (e == 'N') {
        return fail(start, "\\N escapes are not supported in strings; write the character itself");
      } else {
        value += '\\';
        value += e;
      }
    }
    add(TokenType::string, std::move(value), start);
    i_ = i + 1;
    return {};
  }

  std::string source_;
  std::string_view s_;
  size_t i_ = 0;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
  int line_ = 1;
  size_t line_start_ = 0, counted_ = 0;
};

}  // namespace

Error error_at(ErrorCode code, Place place, std::string_view message) {
  return Error{code, "template line " + std::to_string(place.line) + ", column " + std::to_string(place.column) + ": " +
                         std::string(message)};
}

Result<std::vector<Token>> tokenize(std::string_view source) {
  // The lexer's views point into itself, so that it must not move.
  Lexer lexer(source);
  return lexer.run();
}

}  // namespace ponder::chat::jinja
