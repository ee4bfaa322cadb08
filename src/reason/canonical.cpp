// Words to a form in which equal answers are equal strings: notation first (full-width letters, Unicode signs, LaTeX),
// then meaning (yes/no, letter of a choice, exact number with its unit, clock time, list), else the text without case and
// spaces. What cannot be proven equal stays different: 0.33 is not 1/3, and (0, 1) is not [0, 1].
// Next to read: notation.cpp (LaTeX to plain text), expression.cpp (exact values).
#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "base/ascii.h"
#include "base/utf8.h"
#include "reason/answer.h"
#include "reason/expression.h"
#include "reason/notation.h"

namespace ponder::reason {
namespace {

constexpr size_t kMostWords = 4096;  // bytes; a longer "answer" is a text, and compared by its beginning

using Pair = std::pair<std::string_view, std::string_view>;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view trim(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

// ---- Wrappers of plain text.

bool wrapped(std::string_view s, std::string_view open, std::string_view close) {
  return s.size() >= open.size() + close.size() && s.starts_with(open) && s.ends_with(close);
}

// A parenthesis around everything, which says nothing: "(3 + 4)", but not "(1, 2)" nor "(1) + (2)".
bool idle_parentheses(std::string_view s) {
  if (!wrapped(s, "(", ")")) return false;
  int depth = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '(') ++depth;
    if (s[i] == ')' && --depth == 0 && i + 1 < s.size()) return false;
    if (s[i] == ',' && depth == 1) return false;
  }
  return depth == 0;
}

std::string_view unwrap(std::string_view s) {
  for (bool again = true; again;) {
    again = false;
    s = trim(s);
    while (!s.empty() && (s.back() == '.' || s.back() == ',' || s.back() == ';' || s.back() == '!' || s.back() == ':'))
      s.remove_suffix(1), s = trim(s), again = true;
    for (const auto& [open, close] : std::initializer_list<Pair>{{"**", "**"},
                                                                 {"__", "__"},
                                                                 {"$$", "$$"},
                                                                 {"$", "$"},
                                                                 {"\\(", "\\)"},
                                                                 {"\\[", "\\]"},
                                                                 {"`", "`"},
                                                                 {"\"", "\""},
                                                                 {"'", "'"},
                                                                 {"*", "*"}}) {
      if (!wrapped(s, open, close) || s.size() == open.size() + close.size()) continue;
      const auto inside = s.substr(open.size(), s.size() - open.size() - close.size());
      if (inside.find(open) != inside.npos) continue;  // "**a** and **b**"
      s = inside;
      again = true;
    }
  }
  return s;
}

using ascii::lower;

void drop_prefix(std::string_view& s, std::initializer_list<std::string_view> prefixes) {
  const std::string low = lower(s);
  for (const auto p : prefixes)
    if (low.starts_with(p) && s.size() > p.size()) {
      s = trim(s.substr(p.size()));
      return;
    }
}

// ---- Meaning.

std::string yes_or_no(const std::string& low) {
  for (const char* yes :
       {"yes", "true", "correct", "right", "是", "是的", "对", "对的", "正确", "真", "能", "可以", "会"})
    if (low == yes) return "yes";
  for (const char* no : {"no", "false", "incorrect", "wrong", "否", "不", "不是", "不对", "错", "错误", "不正确", "假",
                         "不能", "不可以", "不会"})
    if (low == no) return "no";
  return {};
}

// "B", "(b)", "B.", "B) Paris", "option B", "选项B": the letter.
std::string choice_letter(std::string_view s) {
  bool marked = false;
  for (const std::string_view word : {"option ", "choice ", "选项", "选"}) {
    if (!lower(s).starts_with(word)) continue;
    s = trim(s.substr(word.size()));
    marked = true;
  }
  const bool parenthesis = s.starts_with('(');
  if (parenthesis) s.remove_prefix(1);
  if (s.empty() || !std::isalpha(uint8_t(s[0]))) return {};
  const char letter = char(std::toupper(uint8_t(s[0])));
  if (letter > 'J') return {};
  const std::string_view rest = s.substr(1);
  const bool alone = parenthesis ? rest == ")" : rest.empty();
  const bool leads = parenthesis
                         ? rest.starts_with(") ")
                         : std::isupper(uint8_t(s[0])) && rest.size() > 1 && rest[0] != ' ' &&
                               std::string_view(".):").find(rest[0]) != std::string_view::npos && rest[1] == ' ';
  if (!alone && !leads && !(marked && !rest.empty() && !std::isalnum(uint8_t(rest[0])))) return {};
  if (alone && !parenthesis && !marked && !std::isupper(uint8_t(s[0]))) return {};  // x of an equation
  return std::string(1, char(std::tolower(letter)));
}

// 7:05, 07:05, 7:05 pm; hours and minutes.
std::string clock_time(std::string_view s) {
  int hours = 0, minutes = 0;
  size_t i = 0;
  while (i < s.size() && i < 2 && std::isdigit(uint8_t(s[i]))) hours = hours * 10 + (s[i++] - '0');
  if (i == 0 || i + 2 >= s.size() + 0 || s[i] != ':') return {};
  if (!std::isdigit(uint8_t(s[i + 1])) || !std::isdigit(uint8_t(s[i + 2]))) return {};
  minutes = (s[i + 1] - '0') * 10 + (s[i + 2] - '0');
  std::string rest = lower(trim(s.substr(i + 3)));
  std::erase(rest, '.');
  if (hours > 24 || minutes > 59) return {};
  if (rest == "pm" && hours < 12) hours += 12;
  if (rest == "am" && hours == 12) hours = 0;
  if (!rest.empty() && rest != "am" && rest != "pm") return {};
  return std::to_string(hours) + ":" + (minutes < 10 ? "0" : "") + std::to_string(minutes);
}

constexpr Pair kUnits[] = {
    {"centimeter", "cm"}, {"centimetre", "cm"}, {"厘米", "cm"},      {"meter", "m"},  {"metre", "m"},
    {"米", "m"},          {"kilometer", "km"},  {"kilometre", "km"}, {"千米", "km"},  {"公里", "km"},
    {"millimeter", "mm"}, {"毫米", "mm"},       {"gram", "g"},       {"克", "g"},     {"kilogram", "kg"},
    {"千克", "kg"},       {"公斤", "kg"},       {"second", "s"},     {"sec", "s"},    {"秒", "s"},
    {"minute", "min"},    {"分钟", "min"},      {"hour", "h"},       {"hr", "h"},     {"小时", "h"},
    {"day", "d"},         {"天", "d"},          {"dollar", "$"},     {"usd", "$"},    {"美元", "$"},
    {"euro", "€"},        {"eur", "€"},         {"欧元", "€"},       {"yuan", "¥"},   {"rmb", "¥"},
    {"元", "¥"},          {"percent", "%"},     {"per cent", "%"},   {"degree", "°"}, {"度", "°"},
    {"liter", "l"},       {"litre", "l"},       {"升", "l"},
};
// Measure words of Chinese count things; they are no units. What is counted may follow: 5个苹果, 5支笔.
constexpr std::string_view kMeasureWords[] = {"个", "只", "本", "支", "颗", "张", "名",
                                              "位", "条", "件", "人", "次", "种", "块"};

std::string unit_of(std::string_view s) {
  s = trim(s);
  if (s.size() > 40) return {};
  for (const auto word : kMeasureWords)
    if (s.starts_with(word)) return "";
  std::string unit = lower(s);
  std::erase_if(unit, [](char c) { return c == '.'; });
  for (const auto& [name, sign] : kUnits)
    if (unit == name || unit == std::string(name) + "s") return std::string(sign);
  if (unit.size() > 3 && unit.back() == 's') unit.pop_back();
  for (const auto& [name, sign] : kUnits)  // the first word of "dollars more"
    if (unit.starts_with(std::string(name) + " ") || unit.starts_with(std::string(name) + "s "))
      return std::string(sign);
  return unit;
}

// May stand behind a number as its unit: letters, signs, at most three words.
bool unit_like(std::string_view s) {
  s = trim(s);
  if (s.empty() || s.size() > 40 || std::count(s.begin(), s.end(), ' ') > 2) return false;
  bool any = false;
  for (std::string_view rest = s; !rest.empty();) {
    const auto d = utf8::decode(rest);
    const char32_t c = d.code_point;
    const bool letter = c < 0x80 && std::isalpha(int(c));
    const bool other = c == U'%' || c == U'°' || c == U'$' || c == U'€' || c == U'£' || c == U'¥' || c >= 0x3400;
    if (letter || other) any = true;
    const bool inside = c == U' ' || c == U'/' || c == U'^' || c == U'.' || (any && c < 0x80 && std::isdigit(int(c)));
    if (!letter && !other && !inside) return false;
    rest.remove_prefix(d.length);
  }
  return any;
}

// "1,000,000" and "1 000 000" without their separators. False when commas are there that separate something else.
bool join_thousands(std::string& s) {
  const auto digit = [&](size_t i) { return i < s.size() && std::isdigit(uint8_t(s[i])); };
  std::string out;
  for (size_t i = 0; i < s.size();) {
    if (!digit(i)) {
      if (s[i] == ',') return false;
      out += s[i++];
      continue;
    }
    size_t end = i;
    while (digit(end)) ++end;
    const bool grouped = end - i <= 3 && end < s.size() && (s[end] == ',' || s[end] == ' ') && !out.ends_with('.');
    out += s.substr(i, end - i);
    if (const char separator = grouped ? s[end] : '\0'; grouped)
      while (end < s.size() && s[end] == separator && digit(end + 1) && digit(end + 2) && digit(end + 3) &&
             !digit(end + 4)) {
        out += s.substr(end + 1, 3);
        end += 4;
      }
    i = end;
  }
  s = std::move(out);
  return true;
}

// Numbers that an expression may be, but a date or a score is not: "2024-05-01", "3-2", "5/6/2024".
bool looks_like_a_date(std::string_view s) {
  int minus = 0, slash = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    const char c = s[i];
    if (c == '-' && i > 0 && std::isdigit(uint8_t(s[i - 1]))) ++minus;
    if (c == '/') ++slash;
    if (!std::isdigit(uint8_t(c)) && c != '-' && c != '/') return false;
  }
  return minus > 0 || slash > 1;
}

std::optional<Rational> value_of(std::string_view s) {
  s = trim(s);
  while (idle_parentheses(s)) s = trim(s.substr(1, s.size() - 2));
  if (s.empty() || looks_like_a_date(s)) return {};
  std::string text(s);
  if (!join_thousands(text)) return {};
  if (auto v = evaluate(text)) return v;
  // A mixed number: 1 1/2, -2 3/4.
  const size_t space = text.find(' ');
  if (space != std::string::npos && text.find('/', space) != std::string::npos) {
    const auto whole = evaluate(text.substr(0, space)), part = evaluate(text.substr(space + 1));
    const bool digits = whole && part && whole->denominator == 1 && part->numerator > 0 &&
                        part->numerator < part->denominator &&
                        text.find_first_not_of("0123456789", text[0] == '-' ? 1 : 0) == space;
    if (digits) return evaluate(text.substr(0, space) + (text[0] == '-' ? "-" : "+") + text.substr(space + 1));
  }
  return {};
}

// More digits than 64 bits hold: without signs that say nothing.
std::string long_number(std::string s) {
  if (!join_thousands(s)) return {};
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.erase(0, 1);
  if (s.empty() || std::count(s.begin(), s.end(), '.') > 1) return {};
  for (const char c : s)
    if (!std::isdigit(uint8_t(c)) && c != '.') return {};
  if (s.find('.') != std::string::npos) {
    while (s.back() == '0') s.pop_back();
    if (s.back() == '.') s.pop_back();
  }
  s.erase(0, std::min(s.find_first_not_of('0'), s.size()));
  if (s.empty() || s.front() == '.') s.insert(0, "0");
  return (negative && s != "0" ? "-" : "") + s;
}

struct Number {
  std::string key, unit;
};

std::optional<Number> number_of(std::string_view s) {
  Number number;
  for (const auto sign : {"\3", "$", "€", "£", "¥"})
    if (s.starts_with(sign)) {
      number.unit = *sign == '\3' ? "$" : sign;
      s = trim(s.substr(std::string_view(sign).size()));
      break;
    }
  const auto plain = [](std::string_view text) -> std::string {
    if (const auto v = value_of(text)) return v->text();
    return long_number(std::string(trim(text)));
  };
  number.key = plain(s);
  if (!number.key.empty()) return number;
  // With a unit behind it: the shortest tail that leaves a number. "5 cm", "50%", "3/4 cup", "12个苹果".
  for (size_t cut = 1; cut < s.size(); ++cut) {
    if ((uint8_t(s[cut]) & 0xC0) == 0x80) continue;
    const auto tail = s.substr(cut);
    const bool joined =
        std::isalnum(uint8_t(s[cut])) && std::isalnum(uint8_t(s[cut - 1])) && !std::isdigit(uint8_t(s[cut - 1]));
    if (joined || !unit_like(tail)) continue;
    std::string key = plain(s.substr(0, cut));
    if (key.empty()) continue;
    number.key = std::move(key);
    if (number.unit.empty()) number.unit = unit_of(tail);
    return number;
  }
  return {};
}

std::vector<std::string_view> split_list(std::string_view s) {
  std::vector<std::string_view> items;
  int depth = 0;
  size_t begin = 0;
  const auto cut = [&](size_t end, size_t next) {
    items.push_back(trim(s.substr(begin, end - begin)));
    begin = next;
  };
  for (size_t i = 0; i < s.size(); ++i) {
    const char c = s[i];
    if (c == '(' || c == '[' || c == '\1') ++depth;
    if (c == ')' || c == ']' || c == '\2') --depth;
    if (depth != 0) continue;
    if (c == ',' || c == ';') cut(i, i + 1);
    for (const std::string_view word : {" and ", "和", "与"})
      if (s.substr(i).starts_with(word)) {
        if (i > begin) {
          cut(i, i + word.size());
        } else {
          begin = i + word.size();  // ", and"
        }
        i = begin - 1;
        break;
      }
  }
  cut(s.size(), s.size());
  std::erase_if(items, [](std::string_view item) { return item.empty(); });
  return items;
}

std::string text_key(std::string_view s) {
  std::string low = lower(trim(s));
  std::string_view rest = low;
  drop_prefix(rest, {"the ", "a ", "an "});
  // In a formula spaces mean nothing; in words they separate, however many they are.
  const bool formula = rest.find_first_of("=+*/^<>()[]\1\2") != rest.npos;
  std::string out;
  for (const char c : rest) {
    if (!is_space(c)) {
      out += c;
    } else if (!formula && !out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  while (idle_parentheses(out)) out = out.substr(1, out.size() - 2);
  return out;
}

// One answer, or one element of a list.
Number meaning(std::string_view s, int depth);

std::optional<std::string> list_key(std::string_view s, int depth) {
  const bool set = wrapped(s, "\1", "\2"), brackets = wrapped(s, "[", "]");
  const std::string_view inside = set || brackets ? s.substr(1, s.size() - 2) : s;
  const auto items = split_list(inside);
  if (items.empty() || (items.size() == 1 && !set && !brackets)) return {};
  std::vector<std::string> keys;
  for (const auto item : items) keys.push_back(meaning(item, depth + 1).key);
  if (set) std::sort(keys.begin(), keys.end());
  std::string key;
  for (const auto& k : keys) key += (key.empty() ? "" : ",") + k;
  return set ? "{" + key + "}" : key;
}

Number meaning(std::string_view s, int depth) {
  s = trim(unwrap(s));
  drop_prefix(s, {"approximately ", "about ", "around ", "roughly ", "~", "大约", "约"});
  // "x = 5", "3 + 4 = 7": what the equation says is on its right.
  if (std::count(s.begin(), s.end(), '=') == 1 && s.find_first_of("<>!,") == s.npos) {
    const size_t at = s.find('=');
    const auto left = trim(s.substr(0, at)), right = trim(s.substr(at + 1));
    const bool name = left.size() == 1 && std::isalpha(uint8_t(left[0]));
    if (!right.empty() && (name || (value_of(left) && number_of(right)))) s = right;
  }
  const std::string low = lower(s);
  if (auto truth = yes_or_no(low); !truth.empty()) return {truth, ""};
  if (auto letter = choice_letter(s); !letter.empty()) return {letter, ""};
  if (auto time = clock_time(s); !time.empty()) return {time, ""};
  if (auto number = number_of(s)) return *number;
  if (const auto n = number_from_words(s)) return {std::to_string(*n), ""};
  if (depth < 4)
    if (auto list = list_key(s, depth)) return {*list, ""};
  // "twelve apples", "十二个苹果": a number in words with what it counts.
  for (size_t end = s.size(); end-- > 1;)
    if ((uint8_t(s[end]) & 0xC0) == 0xC0 && uint8_t(s[0]) >= 0x80)
      if (const auto n = number_from_words(s.substr(0, end)); n && unit_like(s.substr(end)))
        return {std::to_string(*n), unit_of(s.substr(end))};
  for (size_t space = low.rfind(' '); space != low.npos && space > 0; space = low.rfind(' ', space - 1))
    if (const auto n = number_from_words(low.substr(0, space)); n && unit_like(s.substr(space)))
      return {std::to_string(*n), unit_of(s.substr(space))};
  return {text_key(s), ""};
}

}  // namespace

const char* to_string(AnswerKind kind) {
  constexpr const char* kNames[] = {"auto", "boxed", "number", "choice", "yes_no", "json", "text"};
  return kNames[size_t(kind)];
}

std::optional<AnswerKind> parse_answer_kind(std::string_view name) {
  for (int i = 0; i <= int(AnswerKind::text); ++i)
    if (name == to_string(AnswerKind(i))) return AnswerKind(i);
  return {};
}

bool same_answer(const Answer& a, const Answer& b) {
  return a.key == b.key && (a.unit == b.unit || a.unit.empty() || b.unit.empty());
}

std::optional<Answer> canonical_answer(std::string_view words) {
  words = trim(words.substr(0, kMostWords));
  Answer answer;
  answer.shown = unwrap(words);
  if (answer.shown.empty()) answer.shown = words;
  std::string text = plain_signs(words);
  std::string plain = plain_latex(unwrap(text));
  // Bold marks come in pairs; a lone ** is the power of programming languages.
  const std::string_view bold = "**";
  int marks = 0;
  for (size_t at = 0; (at = plain.find(bold, at)) != std::string::npos; at += 2) ++marks;
  replace_all(plain, bold, marks % 2 == 0 ? "" : "^");
  if (trim(plain).empty()) return {};
  // Set braces that a model wrote without the backslash are gone with the groups; those with it are \1 and \2.
  Number m = meaning(plain, 0);
  replace_all(m.key, "\1", "{");
  replace_all(m.key, "\2", "}");
  replace_all(m.key, "\3", "$");
  if (m.key.empty()) return {};
  answer.key = std::move(m.key);
  answer.unit = std::move(m.unit);
  return answer;
}

}  // namespace ponder::reason
