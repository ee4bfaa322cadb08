// Drafts change the speed and never the text: whatever a drafter proposes, whatever controllers do, whoever runs beside.
#include <gtest/gtest.h>

#include <random>

#include "engine/engine_rig.h"
#include "engine/random_rig.h"
#include "engine/scheduler.h"

namespace ponder::engine {
namespace {

using Tokens = std::vector<TokenId>;

// Knows the text in advance (events of a run without drafts, dropped ones included) and spoils part of it.
class Oracle : public Drafter {
 public:
  enum class Kind { right, wrong, half, mad };
  Oracle(Tokens text, Kind kind, uint32_t seed, float odds = 0.9f)
      : text_(std::move(text)), kind_(kind), odds_(odds), rng_(seed) {}

  int propose(std::span<const TokenId> tokens, std::span<Draft> draft) override {
    if (kind_ == Kind::mad) {
      // Ids that no vocabulary has among them, and odds that are no odds.
      for (Draft& d : draft) d = {TokenId(rng_() % 400) - 50, float(rng_() % 30) / 10 - 1};
      return int(rng_() % 3 == 0 ? draft.size() + 5 : rng_() % (draft.size() + 1));
    }
    if (tokens.size() >= text_.size()) return 0;
    const size_t n = std::min(draft.size(), text_.size() - tokens.size());
    for (size_t i = 0; i < n; ++i) {
      const bool spoil = kind_ == Kind::wrong || (kind_ == Kind::half && rng_() % 4 == 0);
      draft[i] = {spoil ? (text_[tokens.size() + i] + 1) % 256 : text_[tokens.size() + i], odds_};
    }
    return int(n);
  }
  void verified(int checked, int accepted) override {
    EXPECT_GE(checked, accepted);
    checked_ += checked, accepted_ += accepted;
  }
  int checked_ = 0, accepted_ = 0;

 private:
  Tokens text_;
  Kind kind_;
  float odds_;
  std::mt19937 rng_;
};

Tokens final_text(const SequenceRequest& request, const Record& record) {
  Tokens text = request.prompt;
  for (const TokenEvent& e : record.events) {
    text.resize(size_t(e.position));
    text.push_back(e.token);
  }
  return text;
}

scripted::Options timed() {
  scripted::Options fake;
  fake.seconds_per_step = 0.01;
  fake.seconds_per_row = 0.0005;
  return fake;
}

TEST(Drafts, RightOnesAreComputedTogether) {
  Rig rig(count_up(), {}, timed());
  Record r;
  auto q = request({10}, r, 100);
  Tokens text;
  for (int i = 10; i < 300; ++i) text.push_back(i % 256);
  auto oracle = std::make_shared<Oracle>(text, Oracle::Kind::right, 1);
  q.drafter = oracle;
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), Tokens(text.begin() + 1, text.begin() + 101));
  EXPECT_EQ(r.finished[0].stats.output_tokens, 100);
  EXPECT_EQ(r.finished[0].stats.draft_tokens, r.finished[0].stats.accepted_tokens);
  EXPECT_EQ(r.finished[0].stats.accepted_tokens, oracle->accepted_);
  EXPECT_LE(rig.plan->batches().size(), 10u);
  EXPECT_EQ(rig.plan->rows_computed(), 100);  // no row twice, none for nothing
}

TEST(Drafts, WrongOnesAreGivenUp) {
  for (const float odds : {0.9f, 1.f}) {  // of certain ones more are tried once
    Rig rig(count_up(), {}, timed());
    Record r;
    auto q = request({10}, r, 200);
    Tokens text;
    for (int i = 10; i < 300; ++i) text.push_back(i % 256);
    q.drafter = std::make_shared<Oracle>(text, Oracle::Kind::wrong, 1, odds);
    rig.submit(std::move(q));
    rig.run();
    EXPECT_EQ(r.tokens(), Tokens(text.begin() + 1, text.begin() + 201));
    EXPECT_EQ(r.finished[0].stats.accepted_tokens, 0);
    EXPECT_LT(rig.plan->now(), 1.03 * 200 * 0.0105) << odds;  // what was tried for nothing cost little
  }
}

TEST(Drafts, CertainOnesFillTheStep) {
  EngineOptions options;
  options.max_output_rows = 50;
  Rig rig(count_up(), options, timed());
  Record r;
  auto q = request({10}, r, 111);
  Tokens text;
  for (int i = 10; i < 300; ++i) text.push_back(i % 256);
  q.drafter = std::make_shared<Oracle>(text, Oracle::Kind::right, 1, 1.f);
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), Tokens(text.begin() + 1, text.begin() + 112));
  EXPECT_EQ(rig.plan->batches().size(), 4u);  // the prompt, then 50, 50 and 10
}

TEST(Drafts, NeverRightTheyCostThreePercentAtMost) {
  const auto seconds = [](const scripted::Options& fake, int tokens, int sequences, bool drafts) {
    Rig rig(count_up(), {}, fake);
    std::vector<Record> records(static_cast<size_t>(sequences));
    for (Record& r : records) {
      auto q = request({10}, r, tokens);
      Tokens text;
      for (int i = 10; i < 2000; ++i) text.push_back(i % 256);
      if (drafts) q.drafter = std::make_shared<Oracle>(text, Oracle::Kind::wrong, 1);
      rig.submit(std::move(q));
    }
    rig.run();
    int drafted = 0;
    for (const Record& r : records) {
      EXPECT_EQ(r.finished[0].stats.accepted_tokens, 0);
      drafted += r.finished[0].stats.draft_tokens;
    }
    if (drafts) {
      EXPECT_GT(drafted, 0);
    }
    return rig.plan->now();
  };
  // A row costs nothing beside a step ... a row costs a step. (Where it is dear it is tried once, and soon enough to have
  // been paid for at 40 tokens.)
  for (const double row : {0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 1.0})
    for (const int tokens : {40, 112, 300, 1500})
      for (const int sequences : {1, 3}) {
        scripted::Options fake;
        fake.seconds_per_step = 0.01 * (1 - row);
        fake.seconds_per_row = 0.01 * row;
        EXPECT_LE(seconds(fake, tokens, sequences, true), 1.03 * seconds(fake, tokens, sequences, false))
            << "row " << row << ", " << tokens << " tokens, " << sequences << " sequences";
      }
}

TEST(Drafts, WhatTheySavedIsNotGambledAway) {
  // Right for 300 tokens, then wrong.
  class Turncoat final : public Drafter {
   public:
    int propose(std::span<const TokenId> tokens, std::span<Draft> draft) override {
      for (size_t i = 0; i < draft.size(); ++i)
        draft[i] = {TokenId((tokens.back() + int(i) + (tokens.size() < 300 ? 1 : 2)) % 256), 0.9f};
      return int(draft.size());
    }
  };
  scripted::Options fake;
  fake.seconds_per_step = 0.007;
  fake.seconds_per_row = 0.003;
  Rig rig(count_up(), {}, fake);
  Record r;
  auto q = request({10}, r, 600);
  q.drafter = std::make_shared<Turncoat>();
  double turned = 0;
  q.sink.on_token = [&, on_token = q.sink.on_token](const TokenEvent& e) {
    if (e.position == 300) turned = rig.plan->now();
    on_token(e);
  };
  rig.submit(std::move(q));
  rig.run();
  EXPECT_LT(turned, 0.7 * 300 * 0.01);
  EXPECT_LT(rig.plan->now() - turned, 1.03 * 300 * 0.01 + 8 * 0.01);
}

TEST(Drafts, ForcedTokensThatWereDraftedAreKept) {
  Rig rig(count_up(), {}, timed());
  Record r;
  auto q = request({10}, r, 60);
  q.controllers = {on_token([](const TokenEvent& e) {
    Decision d;
    if (e.token == 30) d.force = {100, 101, 102};
    return d;
  })};
  Tokens text = range(10, 31);
  for (TokenId t = 100; t < 160; ++t) text.push_back(t);
  q.drafter = std::make_shared<Oracle>(text, Oracle::Kind::right, 1);
  rig.submit(std::move(q));
  rig.run();
  EXPECT_EQ(r.tokens(), Tokens(text.begin() + 1, text.begin() + 61));
  EXPECT_EQ(rig.plan->rows_computed(), 60);
  EXPECT_LE(rig.plan->batches().size(), 8u);
}

TEST(Drafts, PenaltiesSeeTheDraftsBefore) {
  for (const auto kind : {Oracle::Kind::right, Oracle::Kind::half}) {
    Record plain, drafted;
    auto make = [](Record& record) {
      auto q = request({1, 2, 3}, record, 150);
      q.sampling.temperature = 0.9f;
      q.sampling.repeat_penalty = 1.5f;
      q.sampling.frequency_penalty = 0.7f;
      q.sampling.seed = 5;
      return q;
    };
    // The same few tokens are likely everywhere, so the penalties decide.
    const auto script = [](std::span<const TokenId> so_far, std::span<float> logits) {
      for (int i = 0; i < 12; ++i) logits[size_t(i)] = 3.f + float((so_far.back() + i) % 3);
    };
    Rig first(script);
    auto q = make(plain);
    first.submit(make(plain));
    first.run();
    Rig second(script, {}, timed());
    auto d = make(drafted);
    auto oracle = std::make_shared<Oracle>(final_text(q, plain), kind, 3);
    d.drafter = oracle;
    second.submit(std::move(d));
    second.run();
    expect_same(plain, drafted, 0);
    if (kind == Oracle::Kind::right) {
      EXPECT_EQ(oracle->accepted_, oracle->checked_);
    }
    EXPECT_GT(oracle->accepted_, 20);
  }
}

// The promise, for random requests with every kind of controller, alone and beside others, with too few pages.
// A receipt cannot tell whether tokens were drafted.
void expect_same_recording(const Recording& a, const Recording& b) {
  ASSERT_EQ(a.actions.size(), b.actions.size());
  for (size_t i = 0; i < a.actions.size(); ++i) {
    const Action &x = a.actions[i], &y = b.actions[i];
    EXPECT_EQ(x.kind, y.kind);
    EXPECT_EQ(x.position, y.position);
    EXPECT_EQ(x.tokens, y.tokens);
    EXPECT_EQ(x.rewind_to, y.rewind_to);
    EXPECT_EQ(x.stream, y.stream);
    EXPECT_EQ(x.mask_digest, y.mask_digest);
    EXPECT_EQ(x.text, y.text);
    EXPECT_EQ(x.params.has_value(), y.params.has_value());
  }
}

TEST(Drafts, NeverChangeTheText) {
  int64_t accepted = 0, drafted = 0;
  for (uint32_t round = 0; round < 60; ++round) {
    std::mt19937 rng(round + 500);
    const EngineOptions options = random_engine(rng, round);
    const int64_t kv_tokens = 64 * (10 + int64_t(rng() % 40));
    scripted::Options fake = timed();
    fake.seconds_per_row = double(rng() % 20) / 10000;
    Rig rig(scripted::scramble(77), options, fake, kv_tokens);
    const int n = 1 + int(round % 12);
    std::vector<Record> alone(n), records(n);
    std::vector<std::pair<std::shared_ptr<Recording>, std::shared_ptr<Recording>>> recordings(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) {
      const uint32_t seed = round * 1000 + uint32_t(i);
      EngineOptions simple;
      simple.context_length = 600;
      Rig other(scripted::scramble(77), simple);
      auto plain = random_request(seed, alone[size_t(i)]);
      auto undrafted = random_request(seed, alone[size_t(i)]);
      undrafted.recording = recordings[size_t(i)].first = std::make_shared<Recording>();
      other.submit(std::move(undrafted));
      other.run();
      auto q = random_request(seed, records[size_t(i)]);
      q.recording = recordings[size_t(i)].second = std::make_shared<Recording>();
      const auto kind = Oracle::Kind((seed + round) % 4);
      const float odds = seed % 3 == 0 ? 1.f : 0.9f;
      if (rng() % 6 != 0) q.drafter = std::make_shared<Oracle>(final_text(plain, alone[size_t(i)]), kind, seed, odds);
      rig.submit(std::move(q));
      for (uint32_t k = rng() % 4; k > 0; --k) rig.engine->step();
    }
    rig.run();
    for (int i = 0; i < n; ++i) {
      expect_same(records[size_t(i)], alone[size_t(i)], round * 1000 + uint32_t(i));
      expect_same_recording(*recordings[size_t(i)].second, *recordings[size_t(i)].first);
      accepted += records[size_t(i)].finished[0].stats.accepted_tokens;
      drafted += records[size_t(i)].finished[0].stats.draft_tokens;
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(drafted, accepted + 300);
}

TEST(Drafts, AnAbandonedBatchLeavesNoTraceAndNobodyPaysWithPages) {
  Record r, beside;
  Rig* at = nullptr;
  SequenceId victim = 0;
  scripted::Options fake = timed();
  fake.on_layer = [&](int layer) {
    if (layer == 2 && at != nullptr && victim != 0 && r.events.size() > 20) at->engine->cancel(victim);
  };
  Rig rig(count_up(), {}, fake);
  at = &rig;
  auto q = request({10}, r, 200);
  Tokens text;
  for (int i = 10; i < 300; ++i) text.push_back(i % 256);
  q.drafter = std::make_shared<Oracle>(text, Oracle::Kind::right, 1);
  victim = rig.submit(std::move(q));
  rig.submit(request({50}, beside, 90));
  rig.run();
  EXPECT_EQ(r.reason(), finish::kCancelled);
  ASSERT_GT(r.events.size(), 20u);
  for (size_t i = 0; i < r.events.size(); ++i) EXPECT_EQ(r.events[i].token, text[i + 1]);
  EXPECT_EQ(beside.tokens(), range(51, 141));

  // Pages: drafts never push anybody out, they do without.
  Record small;
  EngineOptions options;
  Rig tight(count_up(), options, timed(), 64 * 2);
  auto one = request({10}, small, 100);
  one.drafter = std::make_shared<Oracle>(text, Oracle::Kind::half, 1);
  tight.submit(std::move(one));
  tight.run();
  EXPECT_EQ(small.tokens(), Tokens(text.begin() + 1, text.begin() + 101));
  EXPECT_EQ(tight.engine->status().preemptions, 0u);
}

TEST(Drafts, LengthFollowsTheMeasuredSteps) {
  const auto drafts = [](double per_row, double odds, int proposed, int others = 0) {
    Scheduler scheduler({512, 64, 0.1});
    for (int i = 0; i < 5; ++i) scheduler.measured(0, 128, 0.02 + 128 * per_row);
    for (int i = 0; i < 5; ++i) scheduler.measured(1 + others, 0, 0.02 + (1 + others) * per_row);
    const auto drafted = std::vector<float>(size_t(proposed), float(odds));
    std::vector<Work> work(size_t(1 + others), {1, true, true, 0, {}});
    work[0].drafts = drafted;
    return scheduler.schedule(work)[0].drafts;
  };
  EXPECT_EQ(drafts(0.00001, 0.99, 40), 40);  // rows cost nothing
  EXPECT_EQ(drafts(0.02, 0.5, 40), 0);       // a row costs as much as a step
  const int some = drafts(0.002, 0.8, 40);
  EXPECT_GE(some, 3);
  EXPECT_LE(some, 9);
  EXPECT_LT(drafts(0.002, 0.5, 40), some);
  EXPECT_EQ(drafts(0.002, 0.8, 2), 2);
  EXPECT_EQ(drafts(0.002, 0, 2), 0);
  EXPECT_LE(drafts(0.002, 0.99, 60, 3), 45);  // beside others a step stays near its target time
  // Certain ones are a prompt: as many as the step has time for, whatever the best rate.
  EXPECT_LT(drafts(0.002, 0.99, 60), 60);
  EXPECT_EQ(drafts(0.002, 1, 60), 60);
  EXPECT_LE(drafts(0.002, 1, 60, 3), 45);
}

}  // namespace
}  // namespace ponder::engine
