// What was recorded can be repeated and checked: under every kind of controller, from a busy engine to a lone one.
#include "engine/replay.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/engine_rig.h"
#include "engine/random_rig.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

scripted::Options timed() {
  scripted::Options fake;
  fake.seconds_per_step = 0.01;
  fake.seconds_per_row = 0.0005;
  return fake;
}

struct Replayed {
  std::shared_ptr<Replay> replay;
  Record record;
  int64_t steps = 0;
  std::optional<Replay::Difference> difference() const { return replay->difference(record.reason()); }
};

// The request's own parameters and limits, the recording's actions.
Replayed replay(scripted::Script script, const SequenceRequest& original, Recording recording, std::string reason) {
  Replayed r;
  EXPECT_TRUE(Replay::check(recording, int(original.prompt.size()), 256).ok());
  r.replay = std::make_shared<Replay>(std::move(recording), std::move(reason));
  EngineOptions options;
  options.context_length = 600;
  Rig rig(std::move(script), options, timed());
  SequenceRequest q = original;
  q.controllers = {r.replay};
  q.drafter = r.replay;
  q.recording = nullptr;
  q.sink = sink_to(r.record);
  rig.submit(std::move(q));
  rig.run();
  r.steps = int64_t(rig.plan->batches().size());
  return r;
}

TEST(Replay, EveryRecordingOfABusyEngineHoldsForALoneOne) {
  int64_t tokens = 0;
  for (uint32_t round = 0; round < 30; ++round) {
    std::mt19937 rng(round + 50);
    EngineOptions options;
    options.context_length = 600;
    options.max_sequences = 8;
    options.max_batch_rows = 16 + int(rng() % 300);
    Rig rig(scripted::scramble(77), options, timed(), 64 * (12 + int64_t(rng() % 60)));
    const size_t n = 10;
    std::vector<Record> records(n);
    std::vector<SequenceId> ids(n);
    std::vector<SequenceRequest> originals;
    for (size_t i = 0; i < n; ++i) {
      auto q = random_request(round * 1000 + uint32_t(i), records[i]);
      q.recording = std::make_shared<Recording>();
      originals.push_back(q);
      ids[i] = rig.submit(std::move(q));
    }
    for (int i = 0; i < 25; ++i) rig.engine->step();
    rig.engine->cancel(ids[3]);
    rig.run();
    for (size_t i = 0; i < n; ++i) {
      ASSERT_TRUE(records[i].error().empty() || records[i].reason() == finish::kError);
      if (records[i].reason() == finish::kError) continue;
      const auto r = replay(scripted::scramble(77), originals[i], *originals[i].recording, records[i].reason());
      ASSERT_FALSE(r.difference()) << round << " " << i << " at " << r.difference()->index << ": "
                                   << records[i].reason() << " " << r.record.reason();
      expect_same(records[i], r.record, round * 1000 + uint32_t(i));
      tokens += int64_t(r.record.events.size());
    }
  }
  EXPECT_GT(tokens, 3000);
}

TEST(Replay, IsCheckedManyTokensAStep) {
  Record record;
  Rig rig(scripted::scramble(5), {}, timed());
  auto q = request({1, 2, 3}, record, 300);
  q.sampling.temperature = 1;
  q.recording = std::make_shared<Recording>();
  const auto original = q;
  rig.submit(std::move(q));
  rig.run();
  ASSERT_EQ(original.recording->actions.size(), 1u);
  const auto r = replay(scripted::scramble(5), original, *original.recording, record.reason());
  EXPECT_FALSE(r.difference());
  EXPECT_EQ(r.replay->verified_tokens(), 300);
  EXPECT_EQ(r.steps, 1 + 10);  // the prompt, then 32 rows a step: as many as may draw
}

TEST(Replay, NamesTheFirstTokenThatDiffers) {
  Record record;
  Rig rig(count_up(), {}, timed());
  auto q = request({10}, record, 50);
  q.recording = std::make_shared<Recording>();
  // The rewind's fresh stream draws 110 again from this script, so let it go through the second time.
  q.controllers = {on_token([seen = false](const TokenEvent& e) mutable {
    Decision d;
    if (e.token == 20) d.force = {100, 101}, d.why = "budget";
    if (e.token == 110 && !seen) d.stream = 3, d.rewind_to = e.position, d.why = "loop", seen = true;
    if (e.token == 130) d.finish = "enough";
    return d;
  })};
  const auto original = q;
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(record.reason(), "enough");
  const Recording& recording = *original.recording;
  std::vector<Action::Kind> kinds;
  for (const Action& a : recording.actions) kinds.push_back(a.kind);
  using K = Action::Kind;
  EXPECT_EQ(kinds, (std::vector<K>{K::drawn, K::forced, K::drawn, K::stream, K::rewind, K::drawn, K::finish}));
  EXPECT_EQ(recording.actions[1].text, "budget");
  EXPECT_EQ(recording.actions[1].tokens, (Tokens{100, 101}));
  EXPECT_EQ(recording.actions[1].position, 11);
  EXPECT_EQ(recording.actions[4].text, "loop");
  EXPECT_FALSE(replay(count_up(), original, recording, record.reason()).difference());

  Recording changed = recording;
  changed.actions[2].tokens[3] = 7;
  auto d = replay(count_up(), original, changed, record.reason()).difference();
  ASSERT_TRUE(d);
  EXPECT_EQ(d->index, 10 + 2 + 3);
  EXPECT_EQ(d->position, 1 + 10 + 2 + 3);
  EXPECT_EQ(d->recorded, 7);
  EXPECT_EQ(d->drawn, 105);

  // Another model: differs from the first token on. Another ending: differs at the end.
  d = replay(scripted::say([](std::span<const TokenId>) { return 9; }), original, recording, record.reason())
          .difference();
  ASSERT_TRUE(d);
  EXPECT_EQ(d->index, 0);
  Recording cut = recording;
  cut.actions.resize(3);
  d = replay(count_up(), original, cut, finish::kStop).difference();
  ASSERT_TRUE(d);
  EXPECT_EQ(d->recorded, -1);
  // Cancelled replies end where they were cancelled.
  EXPECT_FALSE(replay(count_up(), original, cut, finish::kCancelled).difference());
}

TEST(Replay, MasksAreKeptAsRuns) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 rng(seed);
    const int vocab = 1 + int(rng() % 300);
    std::vector<uint32_t> words(size_t(vocab + 31) / 32);
    for (auto& w : words) w = rng() % 3 == 0 ? 0u : rng() % 3 == 0 ? ~0u : rng();
    const auto runs = mask_runs(words, vocab);
    const auto back = mask_words(runs);
    ASSERT_EQ(mask_digest(back, vocab), mask_digest(words, vocab)) << seed;
    for (int id = 0; id < vocab; ++id) {
      const bool is = words[size_t(id) / 32] >> (id % 32) & 1;
      const bool got = size_t(id) / 32 < back.size() && (back[size_t(id) / 32] >> (id % 32) & 1);
      ASSERT_EQ(is, got);
    }
  }
  EXPECT_EQ(mask_digest({}, 100), 0u);
}

TEST(Replay, RefusesWhatNoEngineWrote) {
  Recording r;
  r.actions.resize(1);
  r.actions[0].position = 5;
  r.actions[0].tokens = {1, 2};
  EXPECT_TRUE(Replay::check(r, 5, 10).ok());
  EXPECT_FALSE(Replay::check(r, 4, 10).ok());
  EXPECT_FALSE(Replay::check(r, 5, 2).ok());
  Recording back = r;
  back.actions.emplace_back();
  back.actions[1].kind = Action::Kind::rewind;
  back.actions[1].position = 7;
  for (const auto& [to, ok] : {std::pair(5, true), {7, true}, {4, false}, {8, false}}) {
    back.actions[1].rewind_to = to;
    EXPECT_EQ(Replay::check(back, 5, 10).ok(), ok) << to;
  }
  Recording mask;
  mask.actions.emplace_back();
  mask.actions[0].kind = Action::Kind::mask;
  mask.actions[0].mask_digest = 77;
  EXPECT_FALSE(Replay::check(mask, 0, 10).ok());
  mask.actions[0].mask = {0, 3};
  EXPECT_FALSE(Replay::check(mask, 0, 10).ok());
  mask.actions[0].mask_digest = mask_digest(mask_words(mask.actions[0].mask), 10);
  EXPECT_TRUE(Replay::check(mask, 0, 10).ok());
  mask.actions[0].mask = {0, 2000000000};
  EXPECT_FALSE(Replay::check(mask, 0, 10).ok());
}

// Runs that overlap cost the engine time for nothing: a few hundred kilobytes would stop it for a minute.
TEST(Replay, RefusesMasksThatNobodyWrites) {
  constexpr int kVocab = 150000;
  const auto check = [&](std::vector<int32_t> runs) {
    Recording r;
    r.actions.emplace_back();
    r.actions[0].kind = Action::Kind::mask;
    r.actions[0].mask = std::move(runs);
    r.actions[0].mask_digest = mask_digest(mask_words(r.actions[0].mask), kVocab);
    return Replay::check(r, 0, kVocab);
  };
  EXPECT_TRUE(check({0, 3, 5, 1, 6, 4}).ok());
  EXPECT_FALSE(check({5, 1, 0, 3}).ok()) << "not ascending";
  EXPECT_FALSE(check({0, 3, 2, 4}).ok()) << "overlapping";
  EXPECT_FALSE(check({0, 3, 0, 3}).ok()) << "twice the same";
  EXPECT_FALSE(check({0, 3, 7, 0}).ok()) << "a run of nothing";
  std::vector<int32_t> many;
  for (size_t i = 0; i < Action::kMaxRuns; ++i) many.insert(many.end(), {int32_t(2 * i), 1});
  EXPECT_TRUE(check(many).ok());
  many.insert(many.end(), {int32_t(2 * Action::kMaxRuns), 1});
  EXPECT_FALSE(check(many).ok()) << "more than are ever kept";
}

}  // namespace
}  // namespace ponder::engine
