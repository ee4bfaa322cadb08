// Votes whose chains have budgets, go in circles, and are steered while they run: what docs/thinking.md promises holds for
// each chain, a command reaches all of them within two steps, and every state of a chain and of a vote is visited.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "base/utf8.h"
#include "runtime/voting_rig.h"

namespace ponder::runtime {
namespace {

using reason::ChainReport;
using reason::VoteOptions;

const std::string kClosing = "Enough, now the answer.";

struct Own {
  int in_thought = 0;
  bool closed = false, forced_close = false;
  std::string kept;  // what stands there when all that was taken back is gone
};

// What is left of a chain's recording.
Own own_of(const engine::Recording& recording, size_t prompt) {
  std::vector<std::pair<TokenId, bool>> left;
  for (const auto& a : recording.actions) {
    using Kind = engine::Action::Kind;
    if (a.kind == Kind::rewind) left.resize(size_t(a.rewind_to) - prompt);
    if (a.kind == Kind::drawn || a.kind == Kind::forced)
      for (const TokenId t : a.tokens) left.emplace_back(t, a.kind == Kind::forced);
  }
  Own own;
  for (const auto& [token, forced] : left) {
    if (token == kClose && !own.closed) {
      own.closed = true;
      own.forced_close = forced;
    }
    own.in_thought += !own.closed && !forced;
    if (token < 256) own.kept += char(token);
  }
  return own;
}

size_t occurrences(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

std::vector<Voice> thinking_voices(std::mt19937& random) {
  std::vector<Voice> all;
  const char* answers[] = {"42", "42.0", "41", "forty"};
  for (int n = 2 + int(random() % 4); n > 0; --n) {
    std::string thought;
    for (int k = int(random() % 60); k > 0; --k)
      thought += random() % 5 == 0 ? "数字 " : std::to_string(random() % 1000) + (random() % 4 == 0 ? ". " : " and ");
    if (random() % 5 == 0) thought += std::string(1500, 'o');  // a loop
    Voice v = says(thought, answers[random() % 4]);
    if (random() % 6 == 0) v.ends = false;
    all.push_back(v);
  }
  return all;
}

TEST(VotePromises, HoldForEveryChainInEveryMixture) {
  std::mt19937 random(17);
  std::map<std::string, int> seen;
  for (int i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
    Desk desk;  // before who holds its tickets
    VoteRig rig;
    rig.engine_options.max_batch_rows = random() % 3 ? 512 : 1 + int(random() % 9);
    rig.engine_options.max_output_rows = std::min(rig.engine_options.max_batch_rows, 32);
    rig.engine_options.max_sequences = random() % 3 ? 8 : 3;
    if (random() % 4 == 0) rig.kv_tokens = 80 * 64;
    rig.prompt.resize(1 + random() % 200, 'p');
    rig.turn.sequence.sampling.seed = random();
    rig.turn.sequence.max_new_tokens = 1200;
    auto& thought = rig.turn.thought;
    thought.params = rig.turn.sequence.sampling;
    thought.room = rig.turn.sequence.max_new_tokens;
    thought.closing = kClosing;
    thought.hard = random() % 2;
    thought.loop = random() % 3 ? reason::LoopPolicy::ladder : reason::LoopPolicy(random() % 4);
    if (random() % 3) thought.tokens = 1 + int(random() % 300);
    if (random() % 6 == 0) thought.extend = 1;
    const int failing = random() % 12 == 0 ? int(random() % (i % 2 ? 300 : 25)) : -1;
    rig.script_options.on_launch = [failing](const backend::Batch&, int step) -> Result<void> {
      if (step == failing) return Error{ErrorCode::internal, "the device is gone"};
      return {};
    };
    rig.build(thinking_voices(random));
    rig.turn.ticket = desk.open("vote").value();
    VoteOptions o;
    o.n = 1 + int(random() % 9);
    o.min = 1 + int(random() % std::min(4, o.n));
    o.settle = random() % 2;
    o.method = random() % 4 == 0 ? VoteOptions::Method::shortest : VoteOptions::Method::majority;
    o.chains = true;

    const int steer_at = random() % 2 ? int(random() % 250) : -1;
    const auto action = reason::Command::Action(random() % 4);
    bool steered = false;
    const VoteOutcome out = rig.vote(o, [&](int step, const auto&, const VoteOutcome&) {
      if (step != steer_at) return;
      const auto met = desk.post("vote", {action, "look at the digits", 50});
      steered = met.ok();
      constexpr const char* kActions[] = {"answer", "more", "note", "stop"};
      seen[std::string(kActions[int(action)]) + (met.ok() ? " taken" : " refused")]++;
    });
    SCOPED_TRACE("vote " + std::to_string(i));
    for (const auto& p : out.progress)
      for (const auto& c : p.chains) seen[std::string("chain ") + to_string(c.state)]++;
    ASSERT_EQ(out.done.size(), 1u);
    if (!out.done[0].ok()) {
      EXPECT_GE(failing, 0) << out.done[0].error().message;
      seen["vote failed"]++;
      continue;
    }
    const ChatResult& r = *out.done[0];
    const reason::VoteReport& v = *r.vote;
    seen[v.settled ? "vote settled" : v.decided ? "vote decided" : "vote cancelled"]++;
    EXPECT_TRUE(utf8::is_valid(out.thinking + out.content));
    ASSERT_EQ(v.chains.size(), size_t(o.n));
    for (const ChainReport& c : v.chains) {
      SCOPED_TRACE("chain " + std::to_string(c.index) + " " + to_string(c.state) + " " + c.done_reason);
      seen[std::string("chain ended ") + to_string(c.state)]++;
      EXPECT_TRUE(utf8::is_valid(c.thinking + c.content));
      const Own own = own_of(*out.tape->chains[size_t(c.index)], rig.prompt.size());
      if (thought.tokens >= 0 && !(steered && action == reason::Command::Action::more)) {
        EXPECT_LE(own.in_thought, thought.hard ? thought.tokens : thought.tokens + (thought.tokens + 9) / 10);
      }
      EXPECT_LE(occurrences(c.thinking, kClosing), 1u);
      EXPECT_LE(occurrences(own.kept, kClosing), 1u);
      if (c.state == ChainReport::State::finished && c.done_reason == "stop") {
        EXPECT_TRUE(own.closed);
        EXPECT_FALSE(c.content.empty()) << "an answer is always there";
      }
      if (own.forced_close) seen["thought closed for a chain"]++;
      if (c.done_reason == "loop") seen["chain stopped as a loop"]++;
    }
    // The winner is what its stream says alone.
    if (v.decided && !steered && failing < 0) {
      EXPECT_EQ(rig.alone(uint32_t(v.winner)), std::make_pair(out.thinking, out.content));
      seen["winner compared"]++;
    }
    EXPECT_LE(out.pages_after, int(rig.prompt.size()) / 64);
    EXPECT_EQ(rig.engine->status().running + rig.engine->status().waiting, 0);
  }
  for (const auto& [state, n] : seen) std::printf("%6d  %s\n", n, state.c_str());
  for (const char* state :
       {"chain waiting", "chain thinking", "chain answering", "chain finished", "chain ended finished",
        "chain ended cancelled", "chain ended failed", "chain stopped as a loop", "thought closed for a chain",
        "answer taken", "answer refused", "more taken", "note taken", "stop taken", "vote settled", "vote decided",
        "vote cancelled", "vote failed", "winner compared"})
    EXPECT_GE(seen[state], 1) << state;
}

// A command is obeyed by all chains within two steps of the engine.
TEST(VotePromises, CommandsReachEveryChainWithinTwoSteps) {
  using Action = reason::Command::Action;
  for (const int rows : {512, 8}) {
    for (const Action action : {Action::answer, Action::note, Action::stop}) {
      for (const int at : {3, 20, 77, 190}) {
        Desk desk;
        VoteRig rig;
        rig.engine_options.max_batch_rows = rows;
        rig.engine_options.max_output_rows = std::min(rows, 32);
        rig.prompt.resize(20, 'p');
        rig.turn.thought.closing = kClosing;
        rig.turn.thought.params = rig.turn.sequence.sampling;
        rig.build({says(std::string(4000, 's'), "7"), says(std::string(4000, 'r'), "8")});
        rig.turn.ticket = desk.open("vote").value();
        VoteOptions o;
        o.n = 8, o.settle = false, o.chains = true;
        int posted = -1, acted = -1;
        rig.turn.sequence.max_new_tokens = rig.turn.thought.room = 600;
        const VoteOutcome out = rig.vote(o, [&](int step, const auto&, const VoteOutcome& so_far) {
          const auto& chains = so_far.tape->chains;
          const auto all = [&](auto that) { return std::all_of(chains.begin(), chains.end(), that); };
          if (posted < 0 && step >= at && all([](const auto& c) { return !c->actions.empty(); })) {
            ASSERT_TRUE(desk.post("vote", {action, "the second one", 0}).ok());
            posted = step;
          }
          const bool now = action == Action::stop ? !so_far.done.empty() : all([](const auto& c) {
            return std::any_of(c->actions.begin(), c->actions.end(),
                               [](const auto& a) { return a.kind == engine::Action::Kind::forced; });
          });
          if (posted >= 0 && acted < 0 && now) acted = step;
        });
        ASSERT_GE(posted, 0);
        ASSERT_GE(acted, posted);
        EXPECT_LE(acted - posted, 2) << rows << " rows, action " << int(action) << " at step " << at;
        ASSERT_TRUE(out.done[0].ok());
        const auto& v = *out.done[0]->vote;
        EXPECT_EQ(out.done[0]->done_reason, action == Action::stop ? "cancelled" : "stop");
        for (const auto& c : v.chains) {
          EXPECT_EQ(occurrences(c.thinking, kClosing), action == Action::stop ? 0u : 1u);
          EXPECT_EQ(occurrences(c.thinking, "the second one"), action == Action::note ? 1u : 0u);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ponder::runtime
