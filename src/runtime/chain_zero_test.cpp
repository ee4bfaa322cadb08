// Chain 0 of a vote is the request without one, bit by bit: every row of logits it draws from, every token; in both
// numerics, greedy and at every temperature. A vote refuses temperature 0, so the greedy group is given to the engine as
// start_vote() gives a vote to it.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "runtime/listening_support.h"
#include "runtime/voting.h"

namespace ponder::runtime {
namespace {

using engine::TokenId;

struct Heard {
  LogitRows logits;
  std::vector<TokenId> tokens;
};

engine::SequenceRequest question(float temperature) {
  const auto segments = tiny().render(ask_tiny("What is 4821 × 736?")).value();
  tokenizer::EncodeOptions encode;
  encode.add_bos = true;
  engine::SequenceRequest q;
  q.prompt = tiny().tokenizer->encode(segments, encode);
  q.max_new_tokens = 90;  // past two borders of pages
  q.sampling.temperature = temperature;
  q.sampling.top_k = 0;
  q.sampling.top_p = 1;
  q.sampling.seed = 77;
  return q;
}

engine::Sink listen(Heard& h) {
  engine::Sink sink;
  sink.on_token = [&h](const engine::TokenEvent& e) { h.tokens.push_back(e.token); };
  return sink;
}

// The first `n` streams, together; what each drew from is told apart by its state.
std::vector<Heard> run(const std::string& precision, float temperature, int n) {
  std::vector<Heard> heard(static_cast<size_t>(n));
  std::map<const backend::SequenceState*, LogitRows> rows;
  std::vector<const backend::SequenceState*> order;  // states draw for the first time in the order of the chains
  auto engine = listening_engine(precision, [&](const backend::Row& row, std::span<const float> logits) {
    if (!rows.contains(row.sequence)) order.push_back(row.sequence);
    rows[row.sequence].emplace_back(logits.begin(), logits.end());
  });
  auto q = question(temperature);
  q.sink = listen(heard[0]);
  std::vector<engine::Branch> branches;
  for (int i = 1; i < n; ++i) branches.push_back({uint32_t(i), {}, nullptr, listen(heard[size_t(i)])});
  EXPECT_TRUE(engine->submit_all(std::move(q), std::move(branches)).ok());
  while (engine->step()) {
  }
  EXPECT_EQ(order.size(), size_t(n));
  for (size_t i = 0; i < order.size(); ++i) heard[i].logits = std::move(rows[order[i]]);
  return heard;
}

TEST(ChainZero, IsTheUnvotedRunBitByBit) {
  for (const char* precision : {"standard", "fast"}) {
    for (const float temperature : {0.f, 1.f, 1.3f}) {
      SCOPED_TRACE(std::string(precision) + " at temperature " + std::to_string(temperature));
      const Heard alone = run(precision, temperature, 1)[0];
      const auto voted = run(precision, temperature, 8);
      ASSERT_GE(alone.tokens.size(), 40u);
      ASSERT_EQ(alone.logits.size(), alone.tokens.size());
      EXPECT_EQ(voted[0].tokens, alone.tokens);
      expect_same_bits(voted[0].logits, alone.logits);
      const auto others =
          std::count_if(voted.begin(), voted.end(), [&](const Heard& h) { return h.tokens != alone.tokens; });
      if (temperature == 0) {
        EXPECT_EQ(others, 0);
      } else {
        EXPECT_GT(others, 4) << "chains draw for themselves";
      }
    }
  }
}

}  // namespace
}  // namespace ponder::runtime
