// Notation to plain text: signs by a table, LaTeX by a scanner that knows the commands that stand in answers and forgets
// the rest of the markup. Braces of a set become \1 and \2, the sign of money \3, so that they survive the groups and
// the mathematics around them.
#include "reason/notation.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/utf8.h"

namespace ponder::reason {
namespace {

constexpr int kMaxDepth = 32;

using Pair = std::pair<std::string_view, std::string_view>;

constexpr Pair kSigns[] = {
    {"−", "-"},      {"–", "-"},      {"—", "-"},    {"×", "*"},    {"·", "*"},    {"∙", "*"},      {"⋅", "*"},
    {"÷", "/"},      {"∕", "/"},      {"½", " 1/2"}, {"¼", " 1/4"}, {"¾", " 3/4"}, {"²", "^2"},     {"³", "^3"},
    {"，", ","},     {"、", ","},     {"；", ";"},   {"：", ":"},   {"。", "."},   {"！", "!"},     {"？", "?"},
    {"（", "("},     {"）", ")"},     {"【", "["},   {"】", "]"},   {"％", "%"},   {"￥", "¥"},     {"“", "\""},
    {"”", "\""},     {"‘", "'"},      {"’", "'"},    {"「", "\""},  {"」", "\""},  {"\u00a0", " "}, {"\u2009", " "},
    {"\u202f", " "}, {"\u3000", " "}, {"…", "..."},  {"≤", "<="},   {"≥", ">="},   {"≈", "~"},      {"∞", "infinity"},
    {"π", "pi"},
};

std::string_view trim(std::string_view s) {
  while (s.starts_with(' ')) s.remove_prefix(1);
  while (s.ends_with(' ')) s.remove_suffix(1);
  return s;
}

constexpr std::string_view kWrappers[] = {"text",   "textbf", "textit", "texttt", "textrm", "mathrm",       "mathbf",
                                          "mathit", "mathsf", "mbox",   "boxed",  "fbox",   "operatorname", "emph"};
constexpr std::string_view kDropped[] = {"left",   "right",     "displaystyle", "bigl", "bigr", "big",  "Big",
                                         "limits", "textstyle", "rm",           "bf",   "it",   "dots", "ldots"};
constexpr Pair kCommands[] = {{"times", "*"},        {"cdot", "*"},     {"div", "/"},     {"pi", "pi"},
                              {"infty", "infinity"}, {"degree", "°"},   {"circ", "°"},    {"quad", " "},
                              {"qquad", " "},        {"leq", "<="},     {"le", "<="},     {"geq", ">="},
                              {"ge", ">="},          {"approx", "~"},   {"pm", "±"},      {"cup", " cup "},
                              {"to", "->"},          {"land", " and "}, {"lbrace", "\1"}, {"rbrace", "\2"}};

class Latex {
 public:
  explicit Latex(std::string_view text) : text_(text) {}
  std::string plain() { return until(0, false); }

 private:
  std::string until(int depth, bool in_group) {
    std::string out;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '}' && in_group) {
        ++at_;
        return out;
      }
      if (c == '\\') {
        command(out, depth);
      } else if (c == '{') {
        ++at_;
        if (depth < kMaxDepth) out += until(depth + 1, true);
      } else if (c == '^' && in_braces(at_ + 1)) {
        ++at_;
        const std::string raised = argument(depth);
        out += trim(raised) == "°" ? "°" : "^(" + raised + ")";
      } else {
        const bool money = c == '$' && std::isdigit(uint8_t(at_ + 1 < text_.size() ? text_[at_ + 1] : ' ')) &&
                           std::count(text_.begin(), text_.end(), '$') == 1;
        if (money) out += '\3';
        if (c != '}' && c != '$') out += c;
        ++at_;
      }
    }
    return out;
  }

  bool in_braces(size_t i) const { return i < text_.size() && (text_[i] == '{' || text_[i] == '\\'); }

  // {...}, a command, or one character.
  std::string argument(int depth) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (at_ >= text_.size() || depth >= kMaxDepth) return {};
    if (text_[at_] == '{') {
      ++at_;
      return until(depth + 1, true);
    }
    std::string out;
    if (text_[at_] == '\\') {
      command(out, depth + 1);
      return out;
    }
    const auto d = utf8::decode(text_.substr(at_));
    out = text_.substr(at_, d.length);
    at_ += d.length;
    return out;
  }

  static std::string in_parentheses(const std::string& s) {
    const bool atom = !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return std::isalnum(uint8_t(c)); });
    return atom ? s : "(" + s + ")";
  }

  void command(std::string& out, int depth) {
    ++at_;
    if (at_ >= text_.size()) return;
    const char first = text_[at_];
    if (!std::isalpha(uint8_t(first))) {
      ++at_;
      if (first == '{') out += '\1';
      if (first == '}') out += '\2';
      if (first == '%' || first == '&' || first == '#' || first == '_') out += first;
      if (first == '$') out += "\3";  // money, not mathematics
      if (first == ' ' || first == '\\') out += ' ';
      return;  // \, \; \! \( \) \[ \]
    }
    size_t end = at_;
    while (end < text_.size() && std::isalpha(uint8_t(text_[end]))) ++end;
    const std::string_view name = text_.substr(at_, end - at_);
    at_ = end;
    if (name == "frac" || name == "dfrac" || name == "tfrac" || name == "cfrac") {
      const std::string above = argument(depth), below = argument(depth);
      const std::string fraction = in_parentheses(above) + "/" + in_parentheses(below);
      // A whole number right before a fraction is a mixed number.
      const bool mixed = !out.empty() && std::isdigit(uint8_t(out.back()));
      out += mixed ? " " + fraction : fraction;
    } else if (name == "sqrt") {
      std::string root;
      if (at_ < text_.size() && text_[at_] == '[') {
        const size_t close = std::min(text_.find(']', at_), text_.size());
        root = text_.substr(at_ + 1, close - at_ - 1);
        at_ = std::min(close + 1, text_.size());
      }
      out += "sqrt" + root + "(" + argument(depth) + ")";
    } else if (std::find(std::begin(kWrappers), std::end(kWrappers), name) != std::end(kWrappers)) {
      out += argument(depth);
    } else if (std::find(std::begin(kDropped), std::end(kDropped), name) == std::end(kDropped)) {
      const auto known =
          std::find_if(std::begin(kCommands), std::end(kCommands), [&](const Pair& p) { return p.first == name; });
      out += known == std::end(kCommands) ? name : known->second;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

std::string plain_signs(std::string_view words) {
  std::string text(words);
  for (const auto& [from, to] : kSigns) replace_all(text, from, to);
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const auto d = utf8::decode(rest);
    if (d.valid && d.code_point >= 0xFF01 && d.code_point <= 0xFF5E) {
      out += char(d.code_point - 0xFF01 + 0x21);
    } else if (d.valid && d.code_point >= 0x200B && d.code_point <= 0x200D) {
      // zero-width: nothing to see, nothing to compare
    } else {
      out.append(rest.substr(0, d.length));
    }
    rest.remove_prefix(d.length);
  }
  return out;
}

std::string plain_latex(std::string_view text) { return Latex(text).plain(); }

}  // namespace ponder::reason
