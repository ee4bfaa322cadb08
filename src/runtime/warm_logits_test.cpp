// A turn whose beginning was computed ahead has the logits of one that was not: whole rows, bit by bit, on the processor.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "engine/engine.h"
#include "runtime/direct.h"
#include "runtime/history.h"
#include "runtime/listening_support.h"
#include "runtime/tiny_support.h"

namespace ponder::runtime {
namespace {

struct Heard {
  LogitRows logits;
  std::vector<engine::TokenId> tokens;
  int cached = 0;
};

// `ahead`: prompts that are computed in the background first.
Heard run(const std::vector<engine::TokenId>& prompt, const std::vector<std::vector<engine::TokenId>>& ahead) {
  Heard h;
  const auto hear = [&](const backend::Row&, std::span<const float> logits) {
    h.logits.emplace_back(logits.begin(), logits.end());
  };
  auto engine = listening_engine({}, hear);
  const auto finish = [&] {
    while (engine->step()) {
    }
  };
  for (const auto& tokens : ahead) {
    engine::SequenceRequest q;
    q.prompt = tokens;
    q.background = true;
    EXPECT_TRUE(engine->submit(std::move(q)).ok());
    finish();
  }
  EXPECT_TRUE(h.logits.empty());
  engine::SequenceRequest q;
  q.prompt = prompt;
  q.max_new_tokens = 12;
  q.sampling.seed = 5;
  q.sink.on_token = [&](const engine::TokenEvent& e) { h.tokens.push_back(e.token); };
  q.sink.on_finish = [&](const engine::Finished& f) { h.cached = f.stats.cached_tokens; };
  EXPECT_TRUE(engine->submit(std::move(q)).ok());
  finish();
  return h;
}

TEST(WarmLogits, AreThoseOfAColdRunBitByBit) {
  ChatRequest first;
  first.model = "tiny";
  first.messages = {say("user", "Tell me all the numbers from one to one hundred, and then what comes after them.")};
  std::string answer;
  for (int i = 1; i <= 90; ++i) answer += std::to_string(i) + ", ";
  const std::string thought = "The user wants numbers. " + answer + answer;
  const auto ahead = next_history(tiny(), first, thought, answer);

  auto second = first;
  second.messages.push_back(say("assistant", answer, thought));
  second.messages.push_back(say("user", "And backwards?"));
  tokenizer::EncodeOptions encode;
  encode.add_bos = true;
  const auto prompt = tiny().tokenizer->encode(tiny().render(second).value(), encode);
  ASSERT_GT(prompt.size(), 250u);

  const Heard warm = run(prompt, {ahead}), cold = run(prompt, {});
  EXPECT_EQ(cold.cached, 0);
  EXPECT_GE(warm.cached, 192) << "the test shows nothing";
  EXPECT_EQ(warm.tokens, cold.tokens);
  ASSERT_GE(warm.logits.size(), 2u);
  expect_same_bits(warm.logits, cold.logits);
}

}  // namespace
}  // namespace ponder::runtime
