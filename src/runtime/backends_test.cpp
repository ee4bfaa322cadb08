// Which device computes when nobody chose one, and what is said about it. The card is played; the processor is real (a plan
// allocates nothing before it is loaded).
#include "runtime/backends.h"

#include <gtest/gtest.h>

#include "backend/scripted/scripted.h"
#include "base/log.h"

namespace ponder::runtime {
namespace {

using backend::Backend;
using backend::Plan;

struct PlayedCard final : Backend {
  explicit PlayedCard(std::optional<Error> error) : error(std::move(error)) {}
  const char* name() const override { return "card"; }
  Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model>,
                                        const backend::PlanOptions& options) override {
    if (error) return *error;
    return std::unique_ptr<Plan>(backend::scripted::make_plan(backend::scripted::scramble(1), options));
  }
  std::optional<Error> error;
};

/// The built-in model, said to weigh `bytes`.
std::shared_ptr<const model::Model> model_of(uint64_t bytes) {
  static const auto loaded = [] {
    auto file = gguf::File::open(PONDER_SOURCE_DIR "/models/ponder-tiny-q4_k_m.gguf");
    EXPECT_TRUE(file.ok());
    auto model = model::Model::load(*file);
    EXPECT_TRUE(model.ok());
    return *model;
  }();
  auto copy = std::make_shared<model::Model>(*loaded);
  copy->weight_bytes = bytes;
  return copy;
}
constexpr uint64_t kBig = uint64_t(1) << 30;

struct Outcome {
  std::string backend, error, said;
  int looked = 0;
};

Outcome compile(const MakeCard& make_card, uint64_t bytes, int gpu_layers = -1) {
  Outcome o;
  set_log_sink([&](LogLevel level, std::string_view text) {
    if (level >= LogLevel::warning) o.said += std::string(text) + "\n";
  });
  const auto backend = make_auto_backend([&] {
    ++o.looked;
    return make_card();
  });
  backend::PlanOptions options;
  options.gpu_layers = gpu_layers;
  for (int again = 0; again < 2; ++again) {
    auto plan = backend->compile(model_of(bytes), options);
    o.backend = plan.ok() ? (*plan)->info().backend : "";
    o.error = plan.ok() ? "" : plan.error().message;
  }
  set_log_sink({});
  return o;
}

MakeCard no_card(ErrorCode code, const char* why) {
  return [=] { return Result<std::unique_ptr<Backend>>(Error{code, why}); };
}
MakeCard a_card(std::optional<Error> error = std::nullopt) {
  return [=] { return Result<std::unique_ptr<Backend>>(std::make_unique<PlayedCard>(error)); };
}

TEST(AutoBackend, TakesTheCardForBigModels) {
  EXPECT_EQ(compile(a_card(), kBig).backend, "scripted");
  const Outcome small = compile(a_card(), 1 << 20);
  EXPECT_EQ(small.backend, "cpu");
  EXPECT_EQ(small.looked, 0) << "a small model does not wait for a driver";
  EXPECT_EQ(compile(a_card(), kBig, 0).backend, "cpu");
}

TEST(AutoBackend, AMachineWithoutADriverIsNothingToTalkAbout) {
  const Outcome o = compile(no_card(ErrorCode::not_found, "no NVIDIA driver is installed"), kBig);
  EXPECT_EQ(o.backend, "cpu");
  EXPECT_EQ(o.said, "");
  EXPECT_EQ(o.looked, 1);
}

TEST(AutoBackend, AFullCardIsSaidAndTheProcessorComputes) {
  const Error full{ErrorCode::out_of_memory, "28 layers need 5.00 GiB, but 2.00 GiB may be taken"};
  const Outcome o = compile(a_card(full), kBig);
  EXPECT_EQ(o.backend, "cpu");
  EXPECT_EQ(o.said, "the processor computes, not the card: " + full.message + "\n" +
                        "the processor computes, not the card: " + full.message + "\n")
      << "once for each model";
  // Layers that were asked for by number are not left out in silence.
  const Outcome demanded = compile(a_card(full), kBig, 12);
  EXPECT_EQ(demanded.error, full.message);
  EXPECT_EQ(demanded.said, "");
}

TEST(AutoBackend, LayersOnACardThatIsNotThereAreAnError) {
  const Outcome o = compile(no_card(ErrorCode::not_found, "no NVIDIA driver is installed"), kBig, 12);
  EXPECT_EQ(o.error, "no NVIDIA driver is installed");
  EXPECT_EQ(compile(a_card(), 1 << 20, 12).backend, "scripted") << "however small the model";
}

TEST(AutoBackend, ADemandedCardThatIsNotThereIsAnError) {
  EXPECT_FALSE(make_backend("none").ok());
  auto cuda = make_backend("cuda");
  if (cuda.ok()) GTEST_SKIP() << "there is a card here";
  EXPECT_GT(cuda.error().message.size(), 20u) << "a sentence about driver, card or build";
}

// A driver that is too old for this build: one line, then the processor (where this build knows cards at all).
TEST(AutoBackend, ABrokenDriverIsSaidOnce) {
  const Outcome o = compile(no_card(ErrorCode::unsupported, "the NVIDIA driver is too old: 12.4"), kBig);
  EXPECT_EQ(o.backend, "cpu");
  if (cards_are_built_in()) {
    EXPECT_EQ(o.said, "the processor computes, not a card: the NVIDIA driver is too old: 12.4\n");
  } else {
    EXPECT_EQ(o.said, "");
  }
}

}  // namespace
}  // namespace ponder::runtime
