#include "backend/cpu/isa/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ponder::backend::cpu::isa {
namespace {

TEST(Isa, NamesGoBothWays) {
  for (Level level : {Level::scalar, Level::avx2, Level::avx2_vnni, Level::avx512, Level::neon})
    EXPECT_EQ(parse_level(to_string(level)), level);
  EXPECT_FALSE(parse_level("avx1024"));
  EXPECT_FALSE(parse_level(""));
}

TEST(Isa, TheActiveLevelIsAvailable) {
  auto levels = available();
  ASSERT_FALSE(levels.empty());
  EXPECT_EQ(levels.front(), Level::scalar);
  EXPECT_TRUE(std::is_sorted(levels.begin(), levels.end()));
  // Where AVX-512 runs, the 256-bit levels run too, so that they are tested there.
  if (levels.back() == Level::avx512) {
    EXPECT_EQ(levels.size(), 4u);
  }
  EXPECT_NE(std::find(levels.begin(), levels.end(), active()), levels.end());
}

}  // namespace
}  // namespace ponder::backend::cpu::isa
