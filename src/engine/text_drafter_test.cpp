// Drafts from the text: found where the text repeats itself, silent where it does not, without allocating, and never
// changing a token, whatever is drafted beside whatever controllers.
#include <gtest/gtest.h>

#include <random>

#include "base/count_allocations_support.h"
#include "engine/engine_rig.h"
#include "engine/random_rig.h"
#include "engine/scheduler.h"
#include "engine/text_drafter.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

std::shared_ptr<TextDrafter> drafter(int most = TextDrafter::kMost, int size = 14) {
  return std::make_shared<TextDrafter>(std::make_shared<Phrases>(size), most);
}

Tokens proposed(Drafter& d, const Tokens& text, size_t most = 15) {
  std::vector<Draft> draft(most);
  const int n = d.propose(text, draft);
  Tokens tokens;
  for (int i = 0; i < n; ++i) {
    EXPECT_GT(draft[size_t(i)].odds, 0);
    EXPECT_LE(draft[size_t(i)].odds, 1);
    tokens.push_back(draft[size_t(i)].token);
  }
  return tokens;
}

Tokens random_tokens(uint32_t seed, size_t n, int vocab_size) {
  std::mt19937 rng(seed);
  Tokens t(n);
  for (auto& x : t) x = TokenId(rng() % uint32_t(vocab_size));
  return t;
}

scripted::Options timed(double per_row) {
  scripted::Options fake;
  fake.seconds_per_step = 0.01;
  fake.seconds_per_row = per_row;
  return fake;
}

TEST(Phrases, SayWhatFollowed) {
  Phrases p(12);
  const auto reader = p.new_reader();
  const Tokens text = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3};
  for (size_t i = 1; i < text.size(); ++i) p.learn(std::span(text).first(i), text[i], reader);
  const auto all = p.look(text, reader);
  for (size_t i = 0; i < all.size(); ++i) {
    if (Phrases::kLengths[i] <= 8) {  // 12 tokens before were never followed by anything
      EXPECT_EQ(all[i].token, 4) << i;
      EXPECT_TRUE(all[i].own);
      EXPECT_EQ(all[i].often, Phrases::kLengths[i] <= 3 ? 1 : 0) << i;
    } else {
      EXPECT_EQ(all[i].token, -1);
    }
  }
  const auto other = p.look(text, p.new_reader());
  EXPECT_EQ(other[0].token, 4);
  EXPECT_FALSE(other[0].own);
  EXPECT_EQ(p.look(std::span(text).first(0), reader)[0].token, -1);
}

TEST(Phrases, ShortRunsKeepWhatIsUsualLongOnesWhatCameLast) {
  Phrases p(12);
  const auto reader = p.new_reader();
  const Tokens run = {7, 8, 9, 10};
  for (int i = 0; i < 3; ++i) p.learn(run, 50, reader);
  p.learn(run, 60, reader);
  const auto all = p.look(run, reader);
  EXPECT_EQ(all[0].token, 50);
  EXPECT_EQ(all[1].token, 50);
  EXPECT_EQ(all[2].token, 60);
  EXPECT_EQ(all[3].token, 60);
}

// A full table forgets; it never grows and never says what nobody read after such a run, but for one look-up in thousands.
TEST(Phrases, StayInTheirMemory) {
  Phrases p(10);
  const auto reader = p.new_reader();
  const Tokens text = random_tokens(1, 20000, 100000);
  for (size_t i = 12; i < text.size(); ++i) p.learn(std::span(text).subspan(i - 12, 12), text[i], reader);
  const Tokens other = random_tokens(2, 5000, 100000);
  int known = 0;
  for (size_t i = 12; i < other.size(); ++i)
    for (const auto& seen : p.look(std::span(other).subspan(i - 12, 12), reader)) known += seen.token >= 0;
  EXPECT_LE(known, 60);  // mostly single tokens that both texts have
}

TEST(TextDrafter, GoesOnAsTheTextDidBefore) {
  auto d = drafter();
  Tokens text = random_tokens(3, 60, 5000);
  const Tokens again(text.begin() + 10, text.begin() + 40);
  text.insert(text.end(), again.begin(), again.begin() + 5);
  EXPECT_EQ(proposed(*d, text), Tokens(again.begin() + 5, again.begin() + 20));
  text.push_back(again[5]);
  EXPECT_EQ(proposed(*d, text, 4), Tokens(again.begin() + 6, again.begin() + 10));
  EXPECT_EQ(proposed(*drafter(2), text), Tokens(again.begin() + 6, again.begin() + 8));
}

TEST(TextDrafter, FallsSilentAndSpeaksAgain) {
  auto d = drafter();
  // Every token was there before, and never with the same follower.
  Tokens text;
  std::mt19937 rng(4);
  for (int i = 0; i < 3000; ++i) text.push_back(TokenId(rng() % 40));
  Tokens so_far(text.begin(), text.begin() + 200);
  std::vector<Draft> draft(15);
  double expected = 0;
  for (size_t i = 200; i < text.size(); ++i) {
    const int n = d->propose(so_far, draft);
    if (i > 2500 && n > 0) expected += double(draft[0].odds);
    so_far.push_back(text[i]);
  }
  EXPECT_LT(expected / 500, 0.2);  // an honest guess: chance is 1 in 40, and the best of seven records is taken
  for (int k = 0; k < 30; ++k) so_far.push_back(text[size_t(k) + 300]);
  const int n = d->propose(so_far, draft);
  ASSERT_GE(n, 5);
  EXPECT_EQ(draft[0].token, text[330]);
}

TEST(TextDrafter, OtherTextsOfTheClientHelp) {
  const auto phrases = std::make_shared<Phrases>(14);
  const Tokens text = random_tokens(5, 100, 5000);
  TextDrafter first(phrases), second(phrases);
  proposed(first, text);
  const Tokens beginning(text.begin(), text.begin() + 20);
  EXPECT_EQ(proposed(second, beginning, 6), Tokens(text.begin() + 20, text.begin() + 26));
  EXPECT_TRUE(proposed(*drafter(), beginning).empty());
  EXPECT_EQ(proposed(*second.fork(), beginning, 6), Tokens(text.begin() + 20, text.begin() + 26));
}

TEST(TextDrafter, DoesNotAllocate) {
  auto d = drafter();
  Tokens text = random_tokens(6, 5000, 50);
  std::vector<Draft> draft(15);
  const int64_t before = allocations;
  int n = 0;
  for (size_t i = 1; i <= text.size(); ++i) n += d->propose(std::span(text).first(i), draft);
  for (size_t i = text.size(); i > 8; i -= 7) n += d->propose(std::span(text).first(i), draft);  // rewinds
  EXPECT_EQ(allocations - before, 0);
  EXPECT_GT(n, 1000);
}

// A model that repeats itself is answered in fewer steps; one that does not costs nothing.
TEST(TextDrafter, PaysWhereTheTextRepeatsAndCostsNothingElsewhere) {
  for (const double per_row : {0.0002, 0.002, 0.008}) {
    for (const bool repeats : {true, false}) {
      double seconds[2];
      Tokens texts[2];
      for (const bool drafted : {false, true}) {
        const auto script = scripted::say([repeats](std::span<const TokenId> so_far) {
          const uint64_t i = so_far.size();
          const uint64_t x = (repeats ? i % 37 : i) * 0x9e3779b97f4a7c15u;
          return TokenId((x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u >> 56);
        });
        Rig rig(script, {}, timed(per_row));
        Record r;
        auto q = request(random_tokens(7, 50, 256), r, 600);
        if (drafted) q.drafter = drafter();
        rig.submit(std::move(q));
        rig.run();
        texts[drafted] = r.tokens();
        seconds[drafted] = rig.plan->now();
      }
      EXPECT_EQ(texts[0], texts[1]);
      const double speed = seconds[0] / seconds[1];
      const double least = !repeats ? 0.97 : per_row < 0.001 ? 5 : per_row < 0.003 ? 2.5 : 0.97;
      EXPECT_GT(speed, least) << per_row << repeats;
    }
  }
}

// The promise, for random requests with every kind of controller, beside others, in batches of any size, with drafters
// that know each other's texts; forks among them.
TEST(TextDrafter, NeverChangesTheText) {
  int64_t accepted = 0, drafted = 0;
  for (uint32_t round = 0; round < 40; ++round) {
    std::mt19937 rng(round + 900);
    const EngineOptions options = random_engine(rng, round);
    const auto phrases = std::make_shared<Phrases>(10 + int(rng() % 5));
    Rig rig(scripted::scramble(77), options, timed(double(rng() % 20) / 10000), 64 * (10 + int64_t(rng() % 40)));
    const int n = 1 + int(round % 12);
    std::vector<Record> alone(n), records(n);
    for (int i = 0; i < n; ++i) {
      const uint32_t seed = round * 1000 + uint32_t(i) % 5;  // some ask the same, and are answered the same
      EngineOptions simple;
      simple.context_length = 600;
      Rig other(scripted::scramble(77), simple);
      other.submit(random_request(seed, alone[size_t(i)]));
      other.run();
      auto q = random_request(seed, records[size_t(i)]);
      q.drafter = std::make_shared<TextDrafter>(phrases, 1 + int(rng() % 15));
      rig.submit(std::move(q));
      for (uint32_t k = rng() % 60; k > 0; --k) rig.engine->step();
    }
    rig.run();
    for (int i = 0; i < n; ++i) {
      expect_same(records[size_t(i)], alone[size_t(i)], round * 1000 + uint32_t(i) % 5);
      accepted += records[size_t(i)].finished[0].stats.accepted_tokens;
      drafted += records[size_t(i)].finished[0].stats.draft_tokens;
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(drafted, accepted);
}

TEST(TextDrafter, ChainsOfAVoteDraftToo) {
  std::vector<Record> plain(4), drafted(4);
  for (const bool with : {false, true}) {
    auto& records = with ? drafted : plain;
    Rig rig(scripted::scramble(5), {}, timed(0.0001));
    auto q = request(random_tokens(8, 40, 256), records[0], 300);
    q.sampling.temperature = 0.2f;
    if (with) q.drafter = drafter();
    std::vector<Branch> branches;
    for (uint32_t i = 1; i < 4; ++i) branches.push_back({i, {}, nullptr, sink_to(records[i])});
    ASSERT_TRUE(rig.engine->submit_all(std::move(q), std::move(branches)).ok());
    rig.run();
  }
  int64_t tried = 0;
  for (size_t i = 0; i < 4; ++i) {
    expect_same(plain[i], drafted[i], uint32_t(i));
    if (i > 0) tried += drafted[i].finished[0].stats.draft_tokens;
  }
  EXPECT_GT(tried, 0);
}

TEST(StepTimes, FollowTheMachineTogether) {
  StepTimes t;
  for (int i = 0; i < 20; ++i) t.measured(1, 0.010), t.measured(4, 0.012);
  EXPECT_NEAR(t.seconds(1), 0.010, 1e-4);
  EXPECT_NEAR(t.seconds(4), 0.012, 1e-4);
  EXPECT_GT(t.seconds(3), t.seconds(1));
  for (int i = 0; i < 60; ++i) t.measured(1, 0.020);  // the machine became half as fast
  EXPECT_NEAR(t.seconds(1), 0.020, 1e-3);
  EXPECT_GT(t.seconds(4) / t.seconds(1), 1.0);
  EXPECT_LT(t.seconds(4) / t.seconds(1), 1.3);
  t.measured(4, 0.5);  // something else took the time
  EXPECT_LT(t.seconds(4), 0.04);
}

// What was too slow once is tried again some day; what one row takes stays known while every step has drafts.
TEST(StepTimes, SizesAreTriedAgain) {
  StepTimes t;
  for (int i = 0; i < 20; ++i) t.measured(1, 0.010);
  t.measured(2, 0.030);
  EXPECT_GT(t.seconds(2), 0.025);
  for (int i = 0; i < 600; ++i) t.measured(1, 0.010);
  EXPECT_LT(t.seconds(2), 0.012);
  for (int i = 0; i < 600; ++i) t.measured(2, 0.015);
  EXPECT_LT(t.seconds(1), 0.012);
}

// A first step that is slow for its own reasons does not hide what the size really costs.
TEST(StepTimes, ASlowFirstStepIsForgottenSoon) {
  StepTimes t;
  for (int i = 0; i < 20; ++i) t.measured(1, 0.010);
  t.measured(2, 0.020);
  for (int i = 0; i < 3; ++i) t.measured(2, 0.0105);
  EXPECT_LT(t.seconds(2), 0.013);
}

}  // namespace
}  // namespace ponder::engine
