#include "reason/language.h"

#include <gtest/gtest.h>

#include <string>

namespace ponder::reason {
namespace {

TEST(Language, IsThatOfTheText) {
  EXPECT_EQ(language_of(""), Language::english);
  EXPECT_EQ(language_of("1 + 1 = 2"), Language::english);
  EXPECT_EQ(language_of("Okay, so I need to find the number of apples that Mia has."), Language::english);
  EXPECT_EQ(language_of("好的,我一步一步来算。\n小明开始有 12。"), Language::chinese);
  EXPECT_EQ(language_of("好的,我需要用 dynamic programming 来解决这个问题,设 dp[i] 为前 i 个数。"), Language::chinese);
  EXPECT_EQ(language_of("The word 苹果 means apple, so the answer is the fruit."), Language::english);
  EXPECT_EQ(language_of("まず、りんごの数を数えます。全部で五個です。"), Language::japanese);
  EXPECT_EQ(language_of("먼저 사과의 개수를 세어 보겠습니다."), Language::korean);
  EXPECT_EQ(language_of("Сначала посчитаем яблоки."), Language::russian);
  EXPECT_EQ(language_of("Also, ich muss die Zahl finden, und das ist nicht schwer."), Language::german);
  EXPECT_EQ(language_of("Je dois trouver le nombre de pommes dans les sacs, donc je compte."), Language::french);
  EXPECT_EQ(language_of("Entonces hay que contar las manzanas y los libros que tiene."), Language::spanish);
  EXPECT_EQ(language_of("Então não é uma das caixas, são as outras do armário em casa."), Language::portuguese);
  EXPECT_EQ(language_of("Quindi il numero non è quello della scatola, sono gli altri."), Language::italian);
}

TEST(Language, SentencesEnd) {
  for (const char* end :
       {"Done.", "Really?", "No!", "a line\n", "对。", "是吗？", "He said \"yes.\"", "(so it is.)", "**Bold.**", "..."})
    EXPECT_TRUE(ends_sentence(end)) << end;
  for (const char* no : {"", "and", "3.", "x = 3.14", "a,", "(", "\"", "so it is,\"", "对,"})
    EXPECT_FALSE(ends_sentence(no)) << no;
}

TEST(Language, BrokenCharactersAreSeen) {
  const std::string three = "对", four = "\xF0\x9F\x98\x80";
  for (size_t n = 1; n < 3; ++n) EXPECT_EQ(incomplete_tail("ab" + three.substr(0, n)), n);
  for (size_t n = 1; n < 4; ++n) EXPECT_EQ(incomplete_tail("ab" + four.substr(0, n)), n);
  EXPECT_EQ(incomplete_tail(""), 0u);
  EXPECT_EQ(incomplete_tail("ab"), 0u);
  EXPECT_EQ(incomplete_tail(three), 0u);
  EXPECT_EQ(incomplete_tail(four), 0u);
  EXPECT_EQ(incomplete_tail("\x80\x80\x80\x80"), 0u) << "bytes that can never become a character are not waited for";
}

}  // namespace
}  // namespace ponder::reason
