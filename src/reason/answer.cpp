// Where in a reply its answer stands. One rule a function, tried in the order of the list in find_answer(); canonical.cpp
// then compares what they found. Only the end of a long reply is looked at: an answer comes last.
#include "reason/answer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "base/utf8.h"

namespace ponder::reason {
namespace {

constexpr size_t kLooked = size_t(64) << 10;  // bytes at the end of the reply
constexpr size_t kShortLine = 80;             // bytes of a reply that is nothing but its answer
constexpr size_t kShortReply = 1200;          // bytes of a reply whose last number may be its answer

using Found = std::optional<std::string>;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
std::string_view trim(std::string_view s) {
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}
using ascii::lower;

// ---- Rules.

// The last \boxed{...} that closes.
Found boxed(std::string_view s) {
  for (size_t end = s.npos;;) {
    const size_t at = std::max(s.rfind("\\boxed{", end) + 1, s.rfind("\\fbox{", end) + 1);
    if (at == 0) return {};
    const size_t open = s.find('{', at);
    int depth = 0;
    for (size_t i = open; i < s.size(); ++i) {
      if (s[i] == '\\' && i + 1 < s.size()) {
        ++i;
        continue;
      }
      if (s[i] == '{') ++depth;
      if (s[i] == '}' && --depth == 0) {
        if (trim(s.substr(open + 1, i - open - 1)).empty()) break;
        return std::string(s.substr(open + 1, i - open - 1));
      }
    }
    if (at == 1) return {};
    end = at - 2;
  }
}

nlohmann::json plain_numbers(const nlohmann::json& v, int depth) {
  using nlohmann::json;
  if (depth > 60) return v;
  if (v.is_number_float()) {
    const double d = v.get<double>();
    if (d == std::floor(d) && std::abs(d) < 9e15) return json(int64_t(d));
  }
  if (v.is_array() || v.is_object()) {
    json copy = v;
    for (auto& item : copy) item = plain_numbers(item, depth + 1);
    return copy;
  }
  if (v.is_string()) {
    return json(std::string(trim(v.get_ref<const std::string&>())));
  }
  return v;
}

bool too_deep(std::string_view s) {
  int depth = 0, most = 0;
  for (const char c : s) {
    if (c == '{' || c == '[') most = std::max(most, ++depth);
    if (c == '}' || c == ']') --depth;
  }
  return most > 60;
}

std::optional<Answer> as_json(std::string_view s) {
  using nlohmann::json;
  s = trim(s);
  const size_t fence = s.rfind("```");
  if (fence != s.npos && fence > 0) {  // the last fenced block
    const size_t begin = s.rfind("```", fence - 1);
    if (begin == s.npos) return {};
    std::string_view block = s.substr(begin + 3, fence - begin - 3);
    const size_t line = block.find('\n');
    const std::string language = lower(trim(block.substr(0, std::min(line, block.size()))));
    if (line != block.npos && (language.empty() || language == "json")) block.remove_prefix(line);
    s = trim(block);
  }
  if (s.empty() || (s[0] != '{' && s[0] != '[') || too_deep(s)) return {};
  const json value = json::parse(s, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return {};
  if (value.is_object())  // what explains it does not count
    for (const char* name : {"answer", "final_answer", "result", "答案"}) {
      const auto it = value.find(name);
      if (it == value.end()) continue;
      if (it->is_string()) return canonical_answer(it->get_ref<const std::string&>());
      if (it->is_number() || it->is_boolean()) return canonical_answer(it->dump());
      const std::string text = plain_numbers(*it, 0).dump(-1, ' ', false, json::error_handler_t::replace);
      return Answer{text, text, ""};
    }
  const bool numbers =
      value.is_array() && std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_number(); });
  if (numbers) return canonical_answer(s);  // a list of numbers is one however it is written
  const std::string text = plain_numbers(value, 0).dump(-1, ' ', false, json::error_handler_t::replace);
  return Answer{text, text, ""};
}

// From `at` to where its sentence ends. A point inside a number or a bold phrase does not end it.
std::string_view sentence(std::string_view s, size_t at) {
  s = s.substr(at);
  s = trim(s.substr(0, std::max<size_t>(s.find('\n', s.find_first_not_of(" \n\t")), 0)));
  for (const std::string_view open : {"**", "$$", "$", "`", "\\("}) {
    if (!s.starts_with(open)) continue;
    const std::string_view close = open == "\\(" ? "\\)" : open;
    if (const size_t end = s.find(close, open.size()); end != s.npos && end > open.size()) {
      // "**12** apples" keeps its unit; "$5$, because" does not go on.
      const auto inside = s.substr(open.size(), end - open.size());
      const auto after = s.substr(end + close.size());
      if (after.starts_with(' ') && inside.size() < 24 && std::isdigit(uint8_t(inside.back())) && after.size() > 1 &&
          std::isalpha(uint8_t(after[1])))
        break;
      return inside;
    }
  }
  for (size_t i = 0; i < s.size(); ++i) {
    const bool last = i + 1 >= s.size();
    if ((s[i] == '.' || s[i] == '!' || s[i] == '?' || s[i] == ';') && (last || is_space(s[i + 1]))) {
      const bool label = s[i] == '.' && i == 1 && std::isupper(uint8_t(s[0])) && !last;  // "B. Paris"
      if (!label) return s.substr(0, i);
    }
    for (const std::string_view stop : {"。", "；", "！", ", because", ", since", ", so", "，因为", " because "})
      if (s.substr(i).starts_with(stop)) return s.substr(0, i);
  }
  return s;
}

// "The answer is 42", "Answer: 42", "答案是42": the last announcement that says something.
Found announced(std::string_view s) {
  const std::string low = lower(s);
  constexpr std::array<std::string_view, 26> kWords = {"final answer is",
                                                       "final answer:",
                                                       "correct answer is",
                                                       "correct option is",
                                                       "correct choice is",
                                                       "answer is",
                                                       "answer would be",
                                                       "answer:",
                                                       "answer**:",
                                                       "the result is",
                                                       "result:",
                                                       "solution is",
                                                       "option is",
                                                       "最终答案是",
                                                       "最终答案为",
                                                       "正确答案是",
                                                       "答案是",
                                                       "答案为",
                                                       "答案：",
                                                       "答案:",
                                                       "结果是",
                                                       "结果为",
                                                       "应选",
                                                       "应该选",
                                                       "故选",
                                                       "选项是"};
  size_t best = 0;
  for (const auto word : kWords) {
    const size_t at = low.rfind(word);
    if (at == low.npos) continue;
    size_t after = at + word.size();
    // What may stand between: "answer is: **", "answer is therefore"
    for (bool again = true; again;) {
      again = false;
      for (const std::string_view filler : {":", "：", " ", "**:", "therefore", "simply", "thus", "indeed", "\n"}) {
        if (!std::string_view(low).substr(after).starts_with(filler)) continue;
        after += filler.size();
        again = true;
      }
      if (std::string_view(low).substr(after).starts_with("** ") ||
          std::string_view(low).substr(after).starts_with("**\n"))
        after += 2, again = true;
    }
    if (after > best && after < s.size()) best = after;
  }
  if (best == 0) return {};
  const auto words = trim(sentence(s, best));
  if (words.empty() || words.size() > 200) return {};
  return std::string(words);
}

// A reply that begins with yes or no and a stop, or is nothing else.
Found leading_yes_no(std::string_view s) {
  s = trim(s);
  while (s.starts_with('*')) s.remove_prefix(1);
  const std::string low = lower(s.substr(0, 40));
  for (const std::string_view word :
       {"yes",  "no",   "true", "false",  "correct", "incorrect", "是的", "不是", "不对", "对的",
        "正确", "错误", "不能", "不可以", "可以",    "是",        "否",   "对",   "错",   "不"}) {
    if (!low.starts_with(word)) continue;
    const std::string_view rest = std::string_view(low).substr(word.size());
    if (trim(rest).empty()) return std::string(word);
    for (const std::string_view stop : {",", ".", "!", ";", ":", "*", "\n", " -", " —", "，", "。", "！", "；", "："})
      if (rest.starts_with(stop)) return std::string(word);
    // "No one", "True love": a word of a sentence.
  }
  return {};
}

// "B", "(B) Paris", "B. Paris" as the beginning of the reply.
Found leading_choice(std::string_view s) {
  s = trim(s);
  while (s.starts_with('*')) s.remove_prefix(1);
  const bool parenthesis = s.starts_with('(');
  if (parenthesis) s.remove_prefix(1);
  if (s.empty() || s[0] < 'A' || s[0] > 'J') return {};
  const auto rest = s.substr(1);
  const bool ends = rest.empty() || trim(rest) == "." || trim(rest) == "**" || trim(rest) == ")";
  const bool goes_on = rest.size() > 1 &&
                       (parenthesis ? rest[0] == ')' : rest[0] == ')' || rest[0] == '.' || rest[0] == ':') &&
                       (rest[1] == ' ' || rest[1] == '\n');
  if (!ends && !goes_on) return {};
  return "(" + std::string(1, s[0]) + ")";
}

// The last capital that stands alone: "so it must be B."
Found last_letter(std::string_view s) {
  for (size_t i = s.size(); i-- > 0;) {
    if (s[i] < 'A' || s[i] > 'J') continue;
    const bool before = i > 0 && std::isalnum(uint8_t(s[i - 1])),
               after = i + 1 < s.size() && std::isalnum(uint8_t(s[i + 1]));
    const bool article = s[i] == 'A' && i + 1 < s.size() && s[i + 1] == ' ' && (i == 0 || s[i - 1] != '(');
    if (!before && !after && !article && !(s[i] == 'I' && i + 1 < s.size() && (s[i + 1] == ' ' || s[i + 1] == '\'')))
      return "(" + std::string(1, s[i]) + ")";
  }
  return {};
}

std::string_view last_line(std::string_view s) {
  s = trim(s);
  const size_t at = s.rfind('\n');
  return at == s.npos ? s : trim(s.substr(at + 1));
}

// The last **bold** words of the last line.
Found bold(std::string_view s) {
  const auto line = last_line(s);
  const size_t end = line.rfind("**");
  if (end == line.npos || end < 3) return {};
  const size_t begin = line.rfind("**", end - 1);
  if (begin == line.npos || end - begin - 2 > kShortLine || end - begin <= 2) return {};
  return std::string(line.substr(begin + 2, end - begin - 2));
}

// The last number of the text, with the unit sign that touches it.
Found last_number(std::string_view s) {
  size_t end = s.size();
  while (end > 0 && !std::isdigit(uint8_t(s[end - 1]))) --end;
  if (end == 0) return {};
  size_t begin = end;
  const auto part = [&](size_t i) {
    const char c = s[i];
    if (std::isdigit(uint8_t(c))) return true;
    const bool between =
        i > 0 && std::isdigit(uint8_t(s[i - 1])) && i + 1 < s.size() && std::isdigit(uint8_t(s[i + 1]));
    return between && (c == '.' || c == ',' || c == '/' || c == ':');
  };
  while (begin > 0 && part(begin - 1)) --begin;
  std::string number(s.substr(begin, end - begin));
  if (begin > 0 && std::isalnum(uint8_t(s[begin - 1]))) return {};  // x2, a label
  if (begin > 0 && s[begin - 1] == '-' && (begin == 1 || is_space(s[begin - 2]))) number.insert(0, "-");
  if (end < s.size() && s[end] == '%') number += '%';
  return number;
}

Found short_line(std::string_view s) {
  s = trim(s);
  if (s.size() > kShortLine || s.find('\n') != s.npos) return {};
  if (s.find(' ') != s.npos && std::count(s.begin(), s.end(), ' ') > 5) return {};
  if (s.ends_with('?') || s.ends_with("？")) return {};  // a question back is no answer
  return std::string(s);
}

// "Mia has 12 apples left.": a sentence with a number is not its own answer.
bool tells_a_number(std::string_view s) {
  int words = 0;
  for (size_t i = 0; i < s.size();) {
    if (uint8_t(s[0]) >= 0x80 && uint8_t(s[i]) < 0x80 && std::isdigit(uint8_t(s[i]))) return true;  // 还剩3个
    size_t end = i;
    while (end < s.size() && std::isalpha(uint8_t(s[end]))) ++end;
    if (end - i > 1 && s.substr(i, end - i) != "and") ++words;
    i = std::max(end, i + 1);
  }
  while (!s.empty() && (s.back() == '.' || s.back() == '!')) s.remove_suffix(1);
  const bool ends_in_it = !s.empty() && std::isdigit(uint8_t(s.back()));  // "It is 5."
  return words >= (ends_in_it ? 2 : 3) &&
         std::any_of(s.begin(), s.end(), [](char c) { return std::isdigit(uint8_t(c)); });
}

std::optional<Answer> canonical(const Found& words) { return words ? canonical_answer(*words) : std::nullopt; }

// An announcement may be a whole clause ("... is that Mia has 12 apples"): then its number is the answer.
std::optional<Answer> canonical_clause(const Found& words) {
  auto answer = canonical(words);
  if (!answer || words->size() <= kShortLine) return answer;
  if (const auto number = last_number(*words)) return canonical_answer(*number);
  return answer;
}

template <class... Rules>
std::optional<Answer> first_of(std::string_view s, Rules... rules) {
  std::optional<Answer> found;
  ((found = found ? std::move(found) : rules(s)), ...);
  return found;
}

}  // namespace

std::optional<Answer> find_answer(std::string_view s, AnswerKind kind, bool whole) {
  if (s.size() > kLooked) {
    s.remove_prefix(s.size() - kLooked);
    while (!s.empty() && (uint8_t(s[0]) & 0xC0) == 0x80) s.remove_prefix(1);
  }
  s = trim(s);
  if (s.empty()) return {};
  const auto boxed_rule = [](std::string_view t) { return canonical(boxed(t)); };
  const auto announced_rule = [](std::string_view t) { return canonical_clause(announced(t)); };
  const auto letter = [](std::string_view t) { return canonical(leading_choice(t)); };
  const auto any_letter = [](std::string_view t) { return canonical(last_letter(t)); };
  const auto yes_no = [](std::string_view t) { return canonical(leading_yes_no(t)); };
  const auto number = [](std::string_view t) { return canonical(last_number(t)); };
  const auto in_bold = [](std::string_view t) { return canonical(bold(t)); };
  const auto line = [](std::string_view t) { return tells_a_number(t) ? std::nullopt : canonical(short_line(t)); };
  const auto number_of_short = [&](std::string_view t) {
    return t.size() <= kShortReply ? number(last_line(t)) : std::nullopt;
  };
  switch (kind) {
    case AnswerKind::boxed:
      return boxed_rule(s);
    case AnswerKind::json:
      return as_json(s);
    case AnswerKind::text:
      return whole ? canonical_answer(s) : std::nullopt;
    case AnswerKind::number:
      return whole ? first_of(s, boxed_rule, announced_rule, number) : boxed_rule(s);
    case AnswerKind::choice:
      return whole ? first_of(s, boxed_rule, announced_rule, letter, any_letter) : boxed_rule(s);
    case AnswerKind::yes_no:
      return whole ? first_of(s, boxed_rule, announced_rule, yes_no) : first_of(s, boxed_rule, yes_no);
    case AnswerKind::automatic:
      break;
  }
  if (!whole) return boxed_rule(s);
  return first_of(s, as_json, boxed_rule, announced_rule, yes_no, letter, in_bold, line, number_of_short);
}

}  // namespace ponder::reason
