// The promise of docs/numerics.md on real files: corners of the matrix that src/backend/cpu/sameness_test.cpp walks whole on
// small models. A sequence of technical text alone, cold, in one chunk, on two threads at the fastest instruction set gives
// the logits that every other corner must reproduce bit by bit: 1, 2, 8, 16 sequences in the batch, chunks of 1, 7, 64, 512,
// 1 and 2 threads, pages from the prefix index, every instruction set.
//
//   sameness_test NAME     (a model of tools/fetch-test-models: smollm2, qwen-0.5b)
#include "backend/cpu/test_sameness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "backend/testing.h"
#include "base/os/system.h"

namespace ponder::backend::cpu {
namespace {

constexpr int kLong = 530;    // two partials of attention, chunks of 512 and a rest
constexpr int kMiddle = 281;  // past a partial's border and a page's
constexpr int kShort = 66;    // past a page's, for what is slow: chunks of one, scalar code

std::string g_name;

struct Corner {
  int threads, neighbours, chunk;
  bool cached;
  int prompt;
};

// Each value of each axis at least once per precision at the fastest level; what is slow on short prompts.
const std::vector<Corner> kStandard = {
    {2, 16, 1, true, kShort}, {2, 2, 7, true, kMiddle},   {2, 8, 64, false, kMiddle}, {1, 1, 1, false, kShort},
    {1, 8, 7, true, kShort},  {1, 16, 512, false, kLong}, {1, 2, 64, true, kMiddle},
};
const std::vector<Corner> kFast = {
    {2, 16, 1, true, kShort}, {2, 8, 64, false, kMiddle}, {1, 2, 7, true, kShort}, {1, 16, 512, false, kLong}};
const std::vector<Corner> kOtherLevel = {
    {2, 1, 512, false, kMiddle}, {2, 16, 1, true, kShort}, {2, 8, 64, true, kShort}};
const std::vector<Corner> kScalar = {{2, 2, 64, true, kShort}};

class RealFile : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto model = backend::testing::load_model(backend::testing::model_cache() + "/" + g_name + ".gguf");
    ASSERT_TRUE(model.ok()) << model.error().message;
    model_ = *model;
    std::ifstream in(PONDER_SOURCE_DIR "/tests/golden/accuracy/" + g_name + ".json");
    ids_ = nlohmann::json::parse(in).at("ids").get<std::vector<TokenId>>();
    ASSERT_GE(ids_.size(), 2048u);
  }
  static void TearDownTestSuite() { model_ = nullptr; }

  // Sequence 0 reads the text from its start, neighbours other places of it.
  static TokenId token(uint64_t sequence, int position) {
    return ids_[(size_t(sequence) * 613 + size_t(position)) % ids_.size()];
  }
  static std::set<int> watched() {
    std::set<int> all = {200, 255, 256};
    for (int prompt : {kShort, kMiddle, kLong})
      for (int i = -1; i < kGenerated; ++i) all.insert(prompt + i);
    return all;
  }

  void tell(isa::Level level, Precision precision, const std::vector<Corner>& corners, KvFormat kv = KvFormat::f16) {
    std::unique_ptr<Runner> runner;
    Case c;
    c.level = level;
    c.precision = precision;
    c.kv = kv;
    for (const Corner& corner : corners) {
      if (!runner || c.threads != corner.threads) {
        c.threads = corner.threads;
        runner.reset();  // first the old one's memory
        runner = std::make_unique<Runner>(model_, c, token, watched());
      }
      c.neighbours = corner.neighbours;
      c.chunk = corner.chunk;
      c.cached = corner.cached;
      c.prompt = corner.prompt;
      const double start = os::monotonic_seconds();
      runner->set_case(c);
      const Logits got = runner->story();
      std::printf("  %5.1f s  %s\n", os::monotonic_seconds() - start, name_of(c).c_str());
      if (want_.empty()) {
        want_ = got;
        for (const auto& [position, logits] : want_)
          for (float x : logits) ASSERT_TRUE(std::isfinite(x)) << position;
        ASSERT_NE(want_.begin()->second, want_.rbegin()->second);
      }
      expect_same(want_, got, size_t(kGenerated) + 1, g_name + " " + name_of(c));
      if (HasFatalFailure()) return;
    }
  }

  void check(Precision precision) {
    const auto levels = isa::available();
    const isa::Level fastest = levels.back();
    auto corners = precision == Precision::fast ? kFast : kStandard;
    corners.insert(corners.begin(), {2, 1, 512, false, kLong});
    tell(fastest, precision, corners);
    for (isa::Level level : levels) {
      if (level == fastest || HasFatalFailure()) continue;
      tell(level, precision, level == isa::Level::scalar ? kScalar : kOtherLevel);
    }
  }

  static inline std::shared_ptr<const model::Model> model_;
  static inline std::vector<TokenId> ids_;
  Logits want_;
};

TEST_F(RealFile, Standard) { check(Precision::standard); }
TEST_F(RealFile, Fast) { check(Precision::fast); }
TEST_F(RealFile, KvInBytes) {
  const auto levels = isa::available();
  tell(levels.back(), Precision::standard, {{2, 1, 512, false, kMiddle}, {2, 8, 7, true, kMiddle}}, KvFormat::q8);
  for (size_t i = 1; i + 1 < levels.size(); ++i)
    tell(levels[i], Precision::standard, {{2, 2, 64, true, kMiddle}}, KvFormat::q8);
}
// Float products are slow: one corner at the two fastest levels.
TEST_F(RealFile, Exact) {
  const auto levels = isa::available();
  tell(levels.back(), Precision::exact, {{2, 1, 512, false, kShort + 30}, {2, 8, 7, true, kShort + 30}});
  if (levels.size() > 1) tell(levels[levels.size() - 2], Precision::exact, {{2, 2, 64, true, kShort + 30}});
}

}  // namespace
}  // namespace ponder::backend::cpu

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2) return std::fprintf(stderr, "usage: sameness_test smollm2|qwen-0.5b\n"), 2;
  ponder::backend::cpu::g_name = argv[1];
  return RUN_ALL_TESTS();
}
