// What counts as the same answer, case by case (tests/cases/answer/*.case), and that no text breaks the search.
#include "reason/answer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <vector>

#include "reason/expression.h"

namespace ponder::reason {
namespace {

// A case file is a list of groups. Each group begins with a line "=== KIND ANSWER" or "=== KIND none"; below it stand
// replies, divided by lines "---" ("--- cut" before one that was cut). All replies of a group must have the answer's key;
// replies of different groups of a file with "differ" in its name must have different ones.
struct Reply {
  std::string text;
  bool whole = true;
};
struct Group {
  std::string kind, wanted;
  int line = 0;
  std::vector<Reply> replies;
};

std::vector<Group> read_groups(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<Group> groups;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line.starts_with("# ")) continue;
    if (line.starts_with("=== ")) {
      std::istringstream head(line.substr(4));
      Group g;
      g.line = number;
      head >> g.kind;
      std::getline(head, g.wanted);
      g.wanted.erase(0, std::min(g.wanted.find_first_not_of(' '), g.wanted.size()));
      g.replies.emplace_back();
      groups.push_back(g);
    } else if (line == "---" || line == "--- cut") {
      if (!groups.back().replies.back().text.empty()) groups.back().replies.emplace_back();
      groups.back().replies.back().whole = line == "---";
    } else {
      auto& text = groups.back().replies.back().text;
      text += (text.empty() ? "" : "\n") + line;
    }
  }
  return groups;
}

TEST(Answer, Cases) {
  int files = 0, replies = 0;
  for (const auto& entry : std::filesystem::directory_iterator(PONDER_SOURCE_DIR "/tests/cases/answer")) {
    if (entry.path().extension() != ".case") continue;
    ++files;
    const auto name = entry.path().filename().string();
    std::vector<Answer> distinct;
    for (const Group& g : read_groups(entry.path())) {
      const auto kind = parse_answer_kind(g.kind);
      ASSERT_TRUE(kind) << name << ":" << g.line << " kind " << g.kind;
      std::optional<Answer> wanted;
      if (g.wanted != "none") {
        wanted = g.wanted.starts_with('{') || g.kind == "json" ? find_answer(g.wanted, AnswerKind::json)
                                                               : canonical_answer(g.wanted);
        ASSERT_TRUE(wanted) << name << ":" << g.line;
        for (const auto& other : distinct)
          if (name.find("differ") != name.npos) {
            EXPECT_FALSE(same_answer(*wanted, other)) << name << ":" << g.line << " is the same as " << other.shown;
          }
        distinct.push_back(*wanted);
      }
      for (const Reply& reply : g.replies) {
        ++replies;
        const auto found = find_answer(reply.text, *kind, reply.whole);
        if (!wanted) {
          EXPECT_FALSE(found) << name << ":" << g.line << "\n" << reply.text << "\nfound: " << found->shown;
        } else if (!found) {
          ADD_FAILURE() << name << ":" << g.line << "\n" << reply.text << "\nfound nothing, wanted " << g.wanted;
        } else {
          EXPECT_TRUE(same_answer(*found, *wanted))
              << name << ":" << g.line << "\n"
              << reply.text << "\nfound " << found->key << " [" << found->unit << "], wanted " << wanted->key;
        }
      }
    }
  }
  EXPECT_GE(files, 5);
  EXPECT_GE(replies, 150);
}

TEST(Answer, UnitsDifferOnlyWhenBothAreWritten) {
  const auto is = [](const char* a, const char* b) { return same_answer(*canonical_answer(a), *canonical_answer(b)); };
  EXPECT_TRUE(is("5 cm", "5"));
  EXPECT_TRUE(is("5 cm", "5 centimetres"));
  EXPECT_TRUE(is("$5.00", "5 dollars"));
  EXPECT_FALSE(is("5 cm", "5 m"));
  EXPECT_FALSE(is("5 cm", "6 cm"));
}

TEST(Expression, IsExactOrSaysNothing) {
  const auto is = [](const char* text, int64_t n, int64_t d) {
    const auto v = evaluate(text);
    ASSERT_TRUE(v) << text;
    EXPECT_EQ(*v, (Rational{n, d})) << text << " = " << v->text();
  };
  is("1/2", 1, 2);
  is("0.5", 1, 2);
  is(".5", 1, 2);
  is("-2^2", -4, 1);
  is("2^3^2", 512, 1);
  is("2^-2", 1, 4);
  is("(1+2)*3-4/6", 25, 3);
  is("1 + 2 * 3", 7, 1);
  is("8/4/2", 1, 1);
  is("1.5e3", 1500, 1);
  is("1e-3", 1, 1000);
  is("--3", 3, 1);
  is("9223372036854775807", INT64_MAX, 1);
  for (const char* bad : {"", "1/0", "0^-1", "1+", "(1", "1)", "x", "1..2", "2^9999", "9223372036854775808", "1e99",
                          "2^63", "1 2", "*", ".", "1e", "9223372036854775807+1", "2^0.5"})
    EXPECT_FALSE(evaluate(bad)) << bad << " = " << evaluate(bad)->text();
  EXPECT_FALSE(evaluate(std::string(100000, '(')));
  EXPECT_FALSE(evaluate(std::string(100000, '-') + "1"));
  EXPECT_FALSE(evaluate("2" + [] {
    std::string s;
    for (int i = 0; i < 10000; ++i) s += "^2";
    return s;
  }()));
}

TEST(Expression, NumbersInWords) {
  const auto is = [](const char* words, int64_t n) {
    const auto v = number_from_words(words);
    ASSERT_TRUE(v) << words;
    EXPECT_EQ(*v, n) << words;
  };
  is("zero", 0);
  is("forty-two", 42);
  is("One hundred and five", 105);
  is("two thousand three hundred seventeen", 2317);
  is("one million", 1000000);
  is("十", 10);
  is("十五", 15);
  is("二十五", 25);
  is("一百零三", 103);
  is("一千零一", 1001);
  is("三万二千", 32000);
  is("两百", 200);
  for (const char* bad :
       {"", "and", "hundred", "twenty thirty", "five six", "forty ten", "apple", "one apple", "二三", "百", "三苹果"})
    EXPECT_FALSE(number_from_words(bad)) << bad;
}

// Random texts made of what the rules look for: nothing breaks, equal texts have equal answers, and wrappers that say
// nothing change nothing.
TEST(Answer, SurvivesAnyText) {
  const std::vector<std::string> pieces = {
      "\\boxed{",  "}",   "{",   "\\frac", "\\sqrt[", "]",   "\\text{", "answer is", "答案是", "**",       "$",
      "```json\n", "```", "[1,", "\"a\":", "1",       "0.5", "1,000",   "-",         "/",      "^",        "(",
      ")",         " ",   "\n",  "yes",    "B.",      "十",  "百",      "hundred",   "\xff",   "\xe2\x82", "\\",
      "\\{",       "=",   "x",   "：",     "%",       "５",  ":",       "30",        " and ",  "\\left("};
  std::mt19937 random(5);
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int n = int(random() % 14); n >= 0; --n) text += pieces[random() % pieces.size()];
    for (int kind = 0; kind <= int(AnswerKind::text); ++kind) {
      const auto a = find_answer(text, AnswerKind(kind), i % 3 != 0);
      if (!a) continue;
      EXPECT_FALSE(a->key.empty());
      EXPECT_TRUE(same_answer(*a, *find_answer(text, AnswerKind(kind), i % 3 != 0)));
    }
  }
  for (const char c : {'(', '[', '{', '\\', '^', '-', '*', '$', '1', ',', ' ', '=', '\1'}) {
    (void)find_answer(std::string(200000, c));
    (void)canonical_answer(std::string(200000, c));
    (void)canonical_answer("\\frac" + std::string(5000, c));
  }
  std::string nested;
  for (int i = 0; i < 3000; ++i) nested += "\\frac{";
  (void)canonical_answer(nested);
  for (int i = 0; i < 3000; ++i) nested += "\\sqrt";
  (void)find_answer("\\boxed{" + nested + "}");
}

TEST(Answer, WrappersSayNothing) {
  for (const char* plain :
       {"42", "1/2", "-3.5", "1,234,567", "x + 1", "Mia and Tom", "07:05", "B", "5 cm", "none", "12, 7, 9"}) {
    const auto key = canonical_answer(plain);
    ASSERT_TRUE(key) << plain;
    for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{{"$", "$"},
                                                                                      {"**", "**"},
                                                                                      {"\\(", "\\)"},
                                                                                      {"\\text{", "}"},
                                                                                      {" ", "\n"},
                                                                                      {"`", "`"},
                                                                                      {"", "."},
                                                                                      {"\\mathrm{", "}"}}) {
      const auto wrapped = canonical_answer(open + plain + close);
      ASSERT_TRUE(wrapped) << open << plain << close;
      EXPECT_EQ(wrapped->key, key->key) << open << plain << close;
    }
    for (const std::string frame :
         {"\\boxed{%}", "The answer is \\boxed{%}.", "Thus\n\n\\[\\boxed{%}\\]", "So: $\\boxed{%}$",
          "答案是 \\boxed{%}。", "**Answer:** %", "The final answer is: $%$", "The answer is **%**."}) {
      std::string text = frame;
      text.replace(text.find('%'), 1, plain);
      const auto found = find_answer(text);
      ASSERT_TRUE(found) << text;
      EXPECT_EQ(found->key, key->key) << text;
    }
  }
}

}  // namespace
}  // namespace ponder::reason
