// Whole synthetic models against backend/reference, which computes from the dequantised weights in float64: a wrong sign,
// head, rotation, bias or page shows at once, rounding stays within what each precision promises.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/test_models.h"
#include "backend/reference/reference.h"

namespace ponder::backend::cpu {
namespace {

constexpr int kTokens = 70;    // past a page
constexpr int kCompared = 24;  // the last rows

// Logits of the last rows of a fixed text, one after the other.
std::vector<float> logits(Backend& backend, const std::shared_ptr<const model::Model>& model, Precision precision,
                          KvFormat kv, bool repack = true) {
  PlanOptions o;
  o.threads = 2;
  o.precision = precision;
  o.kv_format = kv;
  o.kv_tokens = 128;
  o.repack = repack;
  auto plan = backend.compile(model, o);
  EXPECT_TRUE(plan.ok());
  if (!plan.ok()) return {};
  EXPECT_TRUE((*plan)->load({}, nullptr).ok());
  auto state = (*plan)->new_state();
  EXPECT_TRUE(state->reserve(kTokens).ok());
  Batch batch;
  for (int i = 0; i < kTokens; ++i) {
    Row row;
    row.sequence = state.get();
    row.token = (i * 37 + i * i * 11) % model->spec.vocab_size;
    row.position = i;
    row.want_logits = i >= kTokens - kCompared;
    batch.rows.push_back(row);
  }
  EXPECT_TRUE((*plan)->launch(batch, nullptr).ok());
  auto results = (*plan)->collect();
  EXPECT_TRUE(results.ok());
  std::vector<float> all;
  if (results.ok())
    for (const RowResult& r : *results) all.insert(all.end(), r.logits.begin(), r.logits.end());
  EXPECT_EQ(all.size(), size_t(kCompared) * size_t(model->spec.vocab_size));
  return all;
}

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    size += double(b[i]) * b[i];
  }
  return std::sqrt(difference / size);
}

TEST(Conformance, MatchesTheReference) {
  auto cpu = make_backend(), judge = reference::make_backend();
  for (const Named& m : models()) {
    ASSERT_NE(m.model, nullptr);
    const bool floats = std::string(m.name) == "llama-f16";
    const auto want = logits(*judge, m.model, Precision::standard, KvFormat::f32);
    const auto error = [&](Precision p, KvFormat kv) { return relative_l2(logits(*cpu, m.model, p, kv), want); };
    EXPECT_LT(error(Precision::exact, KvFormat::f32), 1e-5) << m.name;
    EXPECT_LT(error(Precision::exact, KvFormat::f16), 2e-3) << m.name;
    EXPECT_LT(error(Precision::exact, KvFormat::q8), 1e-2) << m.name;
    const double standard = error(Precision::standard, KvFormat::f32), fast = error(Precision::fast, KvFormat::f32);
    EXPECT_LT(standard, floats ? 1e-5 : 2e-2) << m.name;
    EXPECT_LT(fast, floats ? 1e-5 : 3e-2) << m.name;
    if (!floats) {
      EXPECT_LT(standard, fast) << m.name;
    }
  }
}

TEST(Conformance, WeightsUsedFromTheFileGiveTheSameBits) {
  auto cpu = make_backend();
  for (const Named& m : models()) {
    EXPECT_EQ(logits(*cpu, m.model, Precision::standard, KvFormat::f16, true),
              logits(*cpu, m.model, Precision::standard, KvFormat::f16, false))
        << m.name;
    PlanOptions packed, mapped;
    packed.threads = mapped.threads = 2;
    mapped.repack = false;
    const auto a = cpu->compile(m.model, packed), b = cpu->compile(m.model, mapped);
    ASSERT_TRUE(a.ok() && b.ok());
    EXPECT_LT((*b)->memory_report().weights, uint64_t(64) << 10) << m.name;
    EXPECT_GT((*b)->memory_report().mapped_weights, (*a)->memory_report().mapped_weights) << m.name;
  }
}

}  // namespace
}  // namespace ponder::backend::cpu
