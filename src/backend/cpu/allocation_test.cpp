// A decode step allocates nothing: memory is taken when a plan is loaded and when a sequence grows by a page. What
// collect() hands over, one vector of results, belongs to the caller.
#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/test_models.h"
#include "base/count_allocations_support.h"

namespace ponder::backend::cpu {
namespace {

TEST(Plan, ADecodeStepDoesNotAllocate) {
  // One thread draws (its lists are kept from draw to draw); of two, either may take the greedy rows.
  for (const int threads : {1, 2}) {
    PlanOptions o;
    o.threads = threads;
    o.kv_format = threads == 1 ? KvFormat::f16 : KvFormat::q8;
    o.kv_tokens = 4096;
    auto plan = make_backend()->compile(models()[0].model, o);
    ASSERT_TRUE(plan.ok() && (*plan)->load({}, nullptr).ok());
    sample::Params params;
    params.seed = 5;
    if (threads > 1) params.temperature = 0;
    std::vector<std::unique_ptr<SequenceState>> states;
    std::vector<sample::Request> requests(4);
    for (auto& r : requests) r.params = &params;
    Batch batch;
    for (int i = 0; i < 4; ++i) {
      states.push_back((*plan)->new_state());
      batch.rows.push_back({.sequence = states.back().get(), .token = i, .sampling = &requests[size_t(i)]});
    }
    // Past a border of pages and of softmax partials; the first two steps size what is sized by use.
    for (int position = 0; position < 300; ++position) {
      for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(states[size_t(i)]->reserve(1).ok());
        batch.rows[size_t(i)].position = position;
        requests[size_t(i)].position = position + 1;
      }
      const int64_t before = allocations.load();
      ASSERT_TRUE((*plan)->launch(batch, nullptr).ok());
      const int64_t launched = allocations.load();
      ASSERT_TRUE((*plan)->collect().ok());
      const int64_t collected = allocations.load();
      if (position > 1) {
        ASSERT_EQ(launched - before, 0) << "at position " << position;
      }
      ASSERT_LE(collected - launched, 1) << "at position " << position;
    }
  }
}

}  // namespace
}  // namespace ponder::backend::cpu
