#include "backend/cpu/limits.h"

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/test_models.h"
#include "base/os/system.h"

namespace ponder::backend::cpu {
namespace {

TEST(Limits, AreMeasuredQuicklyAndArePlausible) {
  for (isa::Level level : isa::available()) {
    const double t0 = os::monotonic_seconds();
    auto limits = measure_limits(1, level);
    const double seconds = os::monotonic_seconds() - t0;
    ASSERT_TRUE(limits.ok());
    // No machine that runs this reads slower than 0.1 GB/s or faster than 2 TB/s with one core.
    EXPECT_GT(limits->read_gbs, 0.1) << isa::to_string(level);
    EXPECT_LT(limits->read_gbs, 2000) << isa::to_string(level);
    EXPECT_GT(limits->int8_gmacs, 0.05) << isa::to_string(level);
    EXPECT_LT(limits->int8_gmacs, 20000) << isa::to_string(level);
    EXPECT_LT(seconds, 3.0) << "a limit must not cost the user a wait (0.6 s on an idle machine)";
  }
}

TEST(Limits, APlanReadsTheWeightsThatItHasPacked) {
  for (const bool repack : {true, false}) {
    PlanOptions o;
    o.threads = 2;
    o.kv_tokens = 64;
    o.repack = repack;
    auto plan = make_backend()->compile(models()[0].model, o);
    ASSERT_TRUE(plan.ok());
    EXPECT_EQ((*plan)->read_bandwidth(), 0) << "nothing is loaded";
    ASSERT_TRUE((*plan)->load({}, nullptr).ok());
    const double rate = (*plan)->read_bandwidth();
    if (repack) {
      EXPECT_GT(rate, 1e8);
      EXPECT_LT(rate, 4e12);
    } else {
      EXPECT_EQ(rate, 0) << "the file's own pages are read";
    }
  }
}

TEST(Limits, WiderVectorsMultiplyFaster) {
  auto levels = isa::available();
  if (levels.size() < 2) GTEST_SKIP() << "one level only";
  EXPECT_GT(measure_int8_gmacs(1, levels.back()), 2 * measure_int8_gmacs(1, isa::Level::scalar));
}

}  // namespace
}  // namespace ponder::backend::cpu
