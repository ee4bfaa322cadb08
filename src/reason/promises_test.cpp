// What docs/thinking.md promises, in random mixtures of everything: budgets of all kinds, closings, extension, commands,
// loops, cut characters, drafts, under any chunking of the engine. The mixtures count the states they come through, and
// every state there is must have been visited.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "base/utf8.h"
#include "reason/thought_rig.h"

namespace ponder::reason {
namespace {

using namespace testing;  // NOLINT: the rig is this file's vocabulary

const std::string kOwnClosing = "Enough of that, here it comes.";

class Coverage {
 public:
  void see(const std::string& state) { ++seen_[state]; }

  void see(const Case& c, const Played& r) {
    const std::string close = c.setup.hard ? "hard" : "graceful";
    std::map<std::string, bool> once;
    for (const auto& [state, cause] : r.budget) {
      constexpr const char* kNames[] = {"free", "soft", "waiting", "over"};
      const char* by = cause == Budget::Cause::seconds ? "seconds" : c.setup.tokens >= 0 ? "tokens" : "room";
      const std::string name = close + " budget " + kNames[int(state)];
      once[state == Budget::State::free ? name : name + " by " + by] = true;
    }
    for (const auto& [state, _] : once) see(state);
    if (!r.o.done_reason.empty()) see(close + " thought ended by " + r.o.done_reason);
    see("reply ended by " + r.o.reason);
    see_loop(c, r);
    for (const Effect& e : r.effects) {
      constexpr const char* kActions[] = {"answer", "more", "note", "stop"};
      see(std::string(kActions[int(e.action)]) + " while " + to_string(e.phase) + (e.accepted ? " taken" : " refused"));
    }
    see(c.batch_rows == 1 ? "one row a step" : c.batch_rows < 64 ? "few rows a step" : "a page and more a step");
  }

  void expect_all(const std::vector<std::string>& states) {
    for (const auto& [state, n] : seen_) std::printf("%6d  %s\n", n, state.c_str());
    for (const auto& state : states) EXPECT_GE(seen_[state], 3) << state;
  }

 private:
  void see_loop(const Case& c, const Played& r) {
    using Kind = engine::Action::Kind;
    const auto& actions = r.recording.actions;
    for (size_t i = 0; i < actions.size(); ++i) {
      if (actions[i].kind == Kind::finish && actions[i].text == kFinishLoop)
        see(r.o.done_reason == ended_by::kLoop ? "loop: thought stopped" : "loop: answer stopped");
      if (actions[i].text != "loop" || (actions[i].kind != Kind::rewind && actions[i].kind != Kind::stream)) continue;
      // One decision of the ladder: what comes before the next draw.
      bool rewound = false, forced = false;
      for (; i < actions.size() && actions[i].kind != Kind::drawn && actions[i].kind != Kind::finish; ++i) {
        rewound |= actions[i].kind == Kind::rewind;
        forced |= actions[i].kind == Kind::forced;
      }
      --i;
      see(forced ? "loop: thought concluded" : rewound ? "loop: thought taken back" : "loop: answer drawn warmer");
    }
    const bool loops = !c.author.round.empty() || !c.author.chorus.empty();
    if (loops && c.setup.loop == LoopPolicy::off && r.o.tokens.size() > 700) see("loop: let be");
  }

  std::map<std::string, int> seen_;
};

Case random_case(int number) {
  Dice d{uint64_t(number)};
  Case c;
  c.author.salt = d.next();
  c.author.words = number % 3 == 0 ? english() : number % 3 == 1 ? chinese() : broken();
  c.author.length = d.in(0, 3) == 0 ? 100000 : d.in(0, 400);
  c.author.answer = d.in(0, 40);
  c.author.ends_in_thought = d.in(0, 4) == 0;
  if (d.in(0, 3) == 0) c.author.opening = d.in(0, 40);
  if (d.in(0, 15) == 0) c.author.thinks = false, c.setup.off = true;
  if (d.in(0, 4) == 0) {
    for (int k = d.in(1, 60); k > 0; --k) c.author.round.push_back(d.of(c.author.words));
    c.author.length = 100000;
  }
  if (d.in(0, 7) == 0) {
    for (int k = d.in(1, 20); k > 0; --k) c.author.chorus.push_back(d.of(c.author.words));
    c.author.answer = 100000;
  }
  c.setup.loop = d.in(0, 1) ? LoopPolicy::ladder : LoopPolicy(d.in(0, 3));
  c.setup.params.temperature = d.in(0, 1) ? 0.f : 1.f;
  c.setup.params.seed = d.next();
  c.prompt = d.in(1, 200);
  c.batch_rows = d.in(0, 1) ? 512 : d.in(0, 2) ? d.in(1, 8) : 1;
  c.drafts = d.in(0, 2) == 0;
  c.max_new_tokens = d.in(0, 2) == 0 ? d.in(8, 200) : 1500;
  if (d.in(0, 2)) c.setup.tokens = d.in(1, 300);
  if (d.in(0, 3) == 0) c.setup.seconds = d.in(1, 300) * 0.01;
  c.setup.hard = d.in(0, 1);
  if (d.in(0, 3) == 0) c.setup.closing = kOwnClosing;
  if (d.in(0, 3) == 0) c.setup.answer = d.in(0, 50);
  c.setup.extend = d.in(0, 4) == 0 ? d.in(1, 3) : 0;
  for (int k = d.in(0, 3); k > 0; --k) {
    const auto action = Command::Action(d.in(0, 11) == 0 ? 3 : d.in(0, 2));
    c.commands.push_back({d.in(0, d.in(0, 1) ? 60 : 400), {action, "count 苹果 again", d.in(0, 50)}});
  }
  return c;
}

bool took(const Played& r, Command::Action action) {
  return std::any_of(r.effects.begin(), r.effects.end(),
                     [&](const Effect& e) { return e.accepted && e.action == action; });
}

size_t closings_in(const std::string& thinking, const Case& c) {
  if (c.setup.closing) return occurrences(thinking, *c.setup.closing);
  size_t n = 0;
  for (int l = 0; l <= int(Language::italian); ++l) n += occurrences(thinking, phrases(Language(l)).closing);
  return n;
}

void expect_promises(const Case& c, const Played& r) {
  const Outcome& o = r.o;
  ASSERT_EQ(r.record.finished.size(), 1u);
  EXPECT_FALSE(o.reason.empty());
  EXPECT_TRUE(utf8::is_valid(o.thinking + o.content));
  EXPECT_LE(int(o.tokens.size()), c.max_new_tokens);
  if (c.setup.tokens >= 0 && !took(r, Command::Action::more)) {
    EXPECT_LE(o.own, o.window) << "the announced window";
  }
  const bool opened = c.author.opening < 0 || std::count(o.tokens.begin(), o.tokens.end(), tags().open[0]) > 0;
  if (o.reason == "cancelled" || !opened) return;
  EXPECT_FALSE(o.done_reason.empty()) << "a thought always ends, and says why";
  // The answer is there; an author that closed its thought itself may have had none to give.
  const bool by_us = o.done_reason != "off" && (o.done_reason != "model" || c.author.ends_in_thought);
  if (by_us && o.reason != "loop") {
    EXPECT_GT(o.tokens.size(), 0u);
  }
  if (by_us && o.reason == "stop") {
    EXPECT_FALSE(o.content.empty());
  }
  // The closing sentence stands there once, or not at all when the model ended or there was no room.
  const size_t times = closings_in(o.thinking, c);
  const bool sentence = o.done_reason == "budget" || o.done_reason == "time" || o.done_reason == "user";
  EXPECT_LE(times, sentence ? 1u : 0u);
  if (sentence && c.max_new_tokens > 200) {
    EXPECT_EQ(times, 1u);
  }
  // Where we cut, the text before is whole characters. (What the author itself breaks off inside stays as it was.)
  if (by_us) {
    size_t tag = size_t(std::find(o.tokens.begin(), o.tokens.end(), tags().close[0]) - o.tokens.begin());
    while (tag > 0 && o.forced[tag - 1]) --tag;
    const std::string before = vocab().decode(std::span(o.tokens).first(tag), true);
    EXPECT_EQ(incomplete_tail(before), 0u);
  }
}

TEST(Promises, HoldInEveryMixtureAndEveryStateIsVisited) {
  Coverage coverage;
  for (int i = 0; i < 800 && !::testing::Test::HasFailure(); ++i) {
    const Case c = random_case(i);
    const Played r = play(c);
    SCOPED_TRACE("case " + std::to_string(i) + ": " + r.o.reason + ", thought ended by " + r.o.done_reason + "\n" +
                 r.o.thinking + "\n---\n" + r.o.content);
    expect_promises(c, r);
    coverage.see(c, r);
    // However the engine cuts its batches, drafts, and whoever runs beside: the same reply. (Commands and seconds come
    // at a time, and what a step is depends on the chunks.)
    if (!c.commands.empty() || c.setup.seconds >= 0) continue;
    Case other = c;
    other.batch_rows = c.batch_rows == 512 ? 1 + i % 7 : 512;
    other.drafts = !c.drafts;
    other.neighbours = other.batch_rows == 512 ? 3 : 0;
    const Played again = play(other);
    EXPECT_EQ(again.o.tokens, r.o.tokens);
    EXPECT_EQ(again.o.reason, r.o.reason);
    EXPECT_EQ(again.o.done_reason, r.o.done_reason);
    coverage.see("the same reply under another chunking");
  }
  coverage.expect_all({
      "graceful budget free",
      "graceful budget soft by tokens",
      "graceful budget soft by seconds",
      "graceful budget soft by room",
      "graceful budget waiting by tokens",
      "graceful budget waiting by seconds",
      "graceful budget waiting by room",
      "graceful budget over by tokens",
      "graceful budget over by seconds",
      "graceful budget over by room",
      "hard budget free",
      "hard budget over by tokens",
      "hard budget over by seconds",
      "hard budget over by room",
      "graceful thought ended by model",
      "graceful thought ended by budget",
      "graceful thought ended by time",
      "graceful thought ended by user",
      "graceful thought ended by loop",
      "graceful thought ended by off",
      "hard thought ended by model",
      "hard thought ended by budget",
      "hard thought ended by time",
      "hard thought ended by user",
      "hard thought ended by loop",
      "hard thought ended by off",
      "reply ended by stop",
      "reply ended by length",
      "reply ended by loop",
      "reply ended by cancelled",
      "loop: thought taken back",
      "loop: thought concluded",
      "loop: thought stopped",
      "loop: answer drawn warmer",
      "loop: answer stopped",
      "loop: let be",
      "answer while waiting taken",
      "more while waiting taken",
      "note while waiting taken",
      "stop while waiting taken",
      "answer while thinking taken",
      "more while thinking taken",
      "note while thinking taken",
      "stop while thinking taken",
      "answer while answering refused",
      "more while answering refused",
      "note while answering refused",
      "stop while answering taken",
      "one row a step",
      "few rows a step",
      "a page and more a step",
      "the same reply under another chunking",
  });
}

// The corpus of the loop detector under the whole ladder.

constexpr int kCorpus = 200;

TEST(Promises, TheLadderEndsEveryLoop) {
  for (int i = 0; i < kCorpus; ++i) {
    const corpus::Loop l = corpus::loop(i);
    Case c;
    c.author.words = english();
    const int before = int(ids(l.before).size());
    // One round as it stands in the text, where tokens run over its seams; and rounds enough for the whole ladder.
    std::string many;
    for (int k = 0; k < 20; ++k) many += l.round;
    const int period = std::max(1, int(ids(many + l.round).size()) - int(ids(many).size()));
    const int patience = std::max(3 * period, 512);
    std::string text = l.before;
    for (int tokens = 0; tokens < 6 * patience; tokens += period) text += l.round;
    c.author.before = ids(text);
    c.author.round = {c.author.before.back()};
    c.author.length = 1 << 30;
    c.max_new_tokens = 20000;
    for (const auto policy : {LoopPolicy::ladder, LoopPolicy::conclude, LoopPolicy::stop}) {
      if (policy != LoopPolicy::ladder && i % 4 != 0) continue;
      SCOPED_TRACE("loop " + std::to_string(i) + ", policy " + std::to_string(int(policy)) + ": " + l.round);
      c.setup.loop = policy;
      const Played r = play(c);
      EXPECT_EQ(r.o.done_reason, "loop");
      EXPECT_EQ(r.o.reason, policy == LoopPolicy::stop ? "loop" : "stop");
      EXPECT_EQ(r.o.content.empty(), policy == LoopPolicy::stop) << "a thought that concludes is answered";
      // It acts within three rounds or 512 tokens, whichever is later, each time anew.
      const auto& actions = r.recording.actions;
      const auto acts = [](const auto& a) {
        return a.kind != engine::Action::Kind::drawn && a.kind != engine::Action::Kind::params;
      };
      const auto first = std::find_if(actions.begin(), actions.end(), acts);
      ASSERT_NE(first, actions.end());
      EXPECT_LE(first->position - c.prompt, before + patience + 1);
      EXPECT_LE(int(r.record.events.size()), before + 2 * (patience + 1) + 100);
    }
  }
}

TEST(Promises, TheLadderLetsTextsBeThatRepeatForAReason) {
  for (int i = 0; i < kCorpus; ++i) {
    Case c;
    c.author.words = english();
    c.author.before = ids(corpus::legitimate(i));
    c.author.length = int(c.author.before.size());
    c.max_new_tokens = 20000;
    const Played r = play(c);
    EXPECT_EQ(r.o.done_reason, "model") << i;
    EXPECT_EQ(r.o.own, c.author.length) << i;
    EXPECT_EQ(r.recording.actions.size(), 1u) << i << ": nothing was done but drawing";
  }
}

}  // namespace
}  // namespace ponder::reason
