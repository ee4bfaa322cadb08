// The judge judged: logits of small random models (one per flag of a decoder) and of the real test
// models against PyTorch's (tools/make-golden/logits.py). The gate is a relative L2 of 1e-4; both
// sides round to float32.
#include <gtest/gtest.h>

#include <cstdio>

#include "backend/reference/reference.h"
#include "backend/testing.h"

namespace ponder::backend::reference {
namespace {

using namespace ponder::backend::testing;

const std::string kGoldens = PONDER_SOURCE_DIR "/tests/golden/logits/";

void expect_golden(const std::string& model_path, const std::string& name) {
  const auto golden = read_golden(kGoldens + name + ".logits");
  ASSERT_TRUE(golden.ok()) << golden.error().message;
  ASSERT_GE(golden->positions.size(), 5u);
  const auto model = load_model(model_path);
  ASSERT_TRUE(model.ok()) << model.error().message;
  auto plan = make_backend()->compile(*model, {.kv_format = KvFormat::f32, .kv_tokens = 512});
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  const auto loaded = (*plan)->load({}, nullptr);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const auto distance = golden_distance(**plan, *golden, 100);
  ASSERT_TRUE(distance.ok()) << distance.error().message;
  std::printf("%-22s relative L2 %.2e\n", name.c_str(), *distance);
  EXPECT_LE(*distance, 1e-4);
}

class SmallModel : public ::testing::TestWithParam<const char*> {};
TEST_P(SmallModel, AsPyTorch) { expect_golden(kGoldens + GetParam() + std::string(".gguf"), GetParam()); }
INSTANTIATE_TEST_SUITE_P(Golden, SmallModel,
                         ::testing::Values("qwen2-untied", "qwen2-tied-mqa", "qwen2-yarn", "llama-tied",
                                           "llama-mha-f32", "llama-biases", "llama-linear", "llama-llama3-keys",
                                           "llama-llama3-tensor", "llama-partial-rope", "qwen3-wide-heads",
                                           "qwen3-yarn"));

TEST(RealModel, SmolLm2AsPyTorch) { expect_golden(model_cache() + "/smollm2.gguf", "smollm2"); }
TEST(RealModel, QwenCoderAsPyTorch) { expect_golden(model_cache() + "/qwen-0.5b.gguf", "qwen-0.5b"); }
TEST(RealModel, PonderTinyAsPyTorch) {
  expect_golden(PONDER_SOURCE_DIR "/models/ponder-tiny-q4_k_m.gguf", "ponder-tiny");
}

}  // namespace
}  // namespace ponder::backend::reference
