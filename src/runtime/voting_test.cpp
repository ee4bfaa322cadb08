// Votes in an engine that plays scripts: whatever the chains say, however batches are cut and whenever somebody hangs up,
// the winner's text is that of its own chain run alone, everything is told once and in order, and no page is left behind.
#include "runtime/voting.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "runtime/vote_json.h"
#include "runtime/voting_rig.h"

namespace ponder::runtime {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using reason::VoteOptions;
using reason::VoteReport;

TEST(Voting, EveryVoteTellsTheTruthAndLeavesNothingBehind) {
  std::mt19937 random(3);
  int settled = 0, silent = 0, split = 0;
  for (int i = 0; i < 150; ++i) {
    VoteRig rig;
    rig.engine_options.max_batch_rows = random() % 2 ? 512 : 7;
    rig.engine_options.max_sequences = random() % 3 ? 8 : 3;
    if (random() % 4 == 0) rig.kv_tokens = 20 * 64;  // some chains must wait for pages
    rig.prompt.resize(1 + random() % 200, 'p');
    rig.turn.sequence.sampling.seed = random();
    rig.turn.sequence.max_new_tokens = 400;
    const auto all = random_voices(random);
    rig.build(all);
    VoteOptions o;
    o.n = 1 + int(random() % 9);
    o.min = 1 + int(random() % 4);
    o.settle = random() % 2;
    o.method = random() % 4 == 0 ? VoteOptions::Method::shortest : VoteOptions::Method::majority;
    o.chains = random() % 2;
    const VoteOutcome out = rig.vote(o);
    ASSERT_EQ(out.done.size(), 1u);
    ASSERT_TRUE(out.done[0].ok()) << out.done[0].error().message;
    const ChatResult& r = *out.done[0];
    ASSERT_TRUE(r.vote);
    const VoteReport& v = *r.vote;
    settled += v.settled;
    silent += v.counts.empty();
    split += v.counts.size() > 1;

    // The winner is what its stream says alone.
    ASSERT_GE(v.winner, 0);
    EXPECT_EQ(rig.alone(uint32_t(v.winner)), std::make_pair(out.thinking, out.content));
    EXPECT_EQ(r.thinking_tokens, int(out.thinking.size()));
    EXPECT_EQ(r.done_reason, out.content.ends_with("}.") || out.content.ends_with("no answer") ? "stop" : "length");
    EXPECT_EQ(r.context.size(), rig.prompt.size() + out.thinking.size() + out.content.size() + 1);  // the closing tag

    // Told in order: progress, the text, the end; the last progress is the decision.
    EXPECT_EQ(out.order.back(), "done");
    ASSERT_FALSE(out.progress.empty());
    EXPECT_TRUE(out.progress.back().decided);
    const auto first_text = std::find(out.order.begin(), out.order.end(), "text");
    EXPECT_EQ(std::find(first_text, out.order.end(), "progress"), out.order.end());
    int64_t tokens = 0;
    for (const auto& p : out.progress) {
      EXPECT_GE(p.tokens, tokens);
      tokens = p.tokens;
      EXPECT_EQ(int(p.chains.size()), o.n);
    }
    EXPECT_EQ(v.tokens, r.output_tokens);
    EXPECT_EQ(v.finished + v.cancelled, o.n);
    EXPECT_EQ(v.chains.size(), o.chains ? size_t(o.n) : 0u);
    if (o.chains) {
      EXPECT_EQ(v.chains[size_t(v.winner)].content, out.content);
      EXPECT_EQ(v.chains[size_t(v.winner)].thinking, out.thinking);
    }
    if (!v.counts.empty()) {
      EXPECT_NE(out.content.find(v.answer), std::string::npos);
    }
    if (v.counts.empty() && o.n > 1) {
      EXPECT_EQ(v.winner, 0);
      ASSERT_EQ(r.warnings.size(), 1u);
      EXPECT_NE(r.warnings[0].find("nothing to vote on"), std::string::npos);
    }
    EXPECT_LE(out.pages_after, int(rig.prompt.size()) / 64) << "only the prompt may stay, in the prefix cache";
    EXPECT_EQ(rig.engine->status().running, 0);
  }
  EXPECT_GT(settled, 20);
  EXPECT_GT(silent, 5);
  EXPECT_GT(split, 20);
}

TEST(Voting, ChainZeroIsTheUnvotedRun) {
  VoteRig rig;
  rig.build({says("aaa", "1"), says("bbbb", "2"), says("c", "3")});
  VoteOptions o;
  o.n = 8, o.settle = false, o.chains = true;
  const VoteOutcome out = rig.vote(o);
  const auto& chains = out.done[0]->vote->chains;
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(rig.alone(i), std::make_pair(chains[i].thinking, chains[i].content)) << i;
  std::set<std::string> different;
  for (const auto& c : chains) different.insert(c.thinking);
  EXPECT_EQ(different.size(), 3u) << "the streams draw for themselves";
}

TEST(Voting, LosersAreCancelledInTheStepOfTheDecision) {
  VoteRig rig;
  // One short voice and one that never ends: when the short ones have settled it, the rest must go.
  rig.build({says("s", "7"), Voice{std::string(5000, 'l'), "", false}});
  rig.turn.sequence.sampling.seed = 4;
  VoteOptions o;
  o.n = 8, o.min = 1, o.method = VoteOptions::Method::shortest;
  const VoteOutcome out = rig.vote(o);
  const ChatResult& r = *out.done[0];
  EXPECT_EQ(r.vote->answer, "7");
  EXPECT_GT(r.vote->cancelled, 0);
  const size_t short_length = tokens_of(says("s", "7")).size() + 1;
  // In step: no chain computed more than the winner did, and one step more at most.
  EXPECT_LE(r.output_tokens, int(8 * (short_length + 1)));
  EXPECT_TRUE(r.vote->settled);
}

TEST(Voting, WhoeverHangsUpEndsAllChains) {
  std::mt19937 random(9);
  int with_text = 0;
  for (int i = 0; i < 60; ++i) {
    VoteRig rig;
    rig.build({says(std::string(100, 's'), "7"), says(std::string(20, 's'), "7"), says("", "8")});
    rig.turn.sequence.sampling.seed = random();
    VoteOptions o;
    o.n = 8, o.settle = false;
    const int after = int(random() % 120);
    int ended_at = -1;
    const VoteOutcome out = rig.vote(o, [&](int step, const auto& chains, const VoteOutcome& so_far) {
      if (ended_at < 0 && !so_far.done.empty()) ended_at = step;
      if (step == after)  // as the runtime does when a peer hangs up
        for (const auto id : chains) rig.engine->cancel(id);
    });
    ASSERT_EQ(out.done.size(), 1u);
    ASSERT_TRUE(out.done[0].ok());
    const ChatResult& r = *out.done[0];
    if (r.done_reason == "cancelled") {
      EXPECT_FALSE(r.vote->decided);
      EXPECT_EQ(out.content.empty(), r.vote->counts.empty()) << "who leads speaks";
      with_text += !out.content.empty();
      EXPECT_GE(ended_at, after);
      EXPECT_LE(ended_at - after, 2) << "steps until every chain was gone";
    } else {
      EXPECT_TRUE(r.vote->decided);
    }
    EXPECT_LE(out.pages_after, 150 / 64);
    EXPECT_EQ(rig.engine->status().running + rig.engine->status().waiting, 0);
  }
  EXPECT_GT(with_text, 5);
}

TEST(Voting, StopStringsAndLimitsHoldForEveryChain) {
  VoteRig rig;
  rig.build({Voice{"think", "It is 5. STOP and more"}, Voice{"think longer", "It is 5. STOP"}});
  rig.turn.reply.stops = {"STOP"};
  VoteOptions o;
  o.n = 6, o.settle = false, o.chains = true;
  const VoteOutcome out = rig.vote(o);
  EXPECT_EQ(out.content, "It is 5. ");
  EXPECT_EQ(out.done[0]->vote->answer, "5");
  for (const auto& c : out.done[0]->vote->chains) EXPECT_EQ(c.content, "It is 5. ");

  VoteRig cut;
  cut.build({says(std::string(50, 't'), "1"), says("", "2")});
  cut.turn.sequence.max_new_tokens = 40;
  const VoteOutcome short_out = cut.vote(o);
  const auto& report = *short_out.done[0]->vote;
  EXPECT_GT(report.without_answer, 0);
  for (const auto& c : report.chains) {
    EXPECT_LE(c.tokens, 40);
    EXPECT_EQ(c.answer.has_value(), c.done_reason == "stop");
  }
}

TEST(Voting, ADeviceThatFailsIsReportedOnce) {
  for (const int failing : {0, 5, 40}) {
    VoteRig rig;
    rig.script_options.on_launch = [failing](const backend::Batch&, int step) -> Result<void> {
      if (step >= failing) return Error{ErrorCode::internal, "the device is gone"};
      return {};
    };
    rig.build({says(std::string(60, 't'), "1"), says("", "2")});
    VoteOptions o;
    o.n = 8, o.settle = false;
    const VoteOutcome out = rig.vote(o);
    ASSERT_EQ(out.done.size(), 1u);
    if (failing == 40) {  // some had answered: they stand
      ASSERT_TRUE(out.done[0].ok());
      EXPECT_EQ(out.done[0]->vote->answer, "2");
    } else {
      ASSERT_FALSE(out.done[0].ok());
      EXPECT_NE(out.done[0].error().message.find("the device is gone"), std::string::npos);
    }
  }
}

TEST(Voting, AnEngineThatIsTornDownEndsTheVote) {
  VoteRig rig;
  rig.build({Voice{"t", "no end", false}});
  int done = 0;
  VoteOptions o;
  o.n = 4;
  auto ids = start_vote(*rig.engine, rig.turn, o, {}, {}, 0, [&](Result<ChatResult> r) {
    ++done;
    EXPECT_TRUE(r.ok());
  });
  ASSERT_TRUE(ids.ok());
  for (int i = 0; i < 10; ++i) rig.engine->step();
  rig.engine.reset();
  EXPECT_EQ(done, 1);
}

TEST(Voting, ChainsThatCannotDifferAreRefused) {
  VoteRig rig;
  rig.build({says("", "1")});
  rig.turn.sequence.sampling.temperature = 0;
  VoteOptions o;
  o.n = 8;
  const auto refused = start_vote(*rig.engine, rig.turn, o, {}, {}, 0, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("temperature 0"), std::string::npos);
  rig.turn.sequence.sampling.temperature = 1;
  rig.turn.sequence.sampling.top_k = 1;
  EXPECT_FALSE(start_vote(*rig.engine, rig.turn, o, {}, {}, 0, {}).ok());
  EXPECT_FALSE(rig.engine->step()) << "nothing was submitted";
}

TEST(Voting, WhatTheEngineRefusesIsLetGo) {
  VoteRig rig;
  rig.build({says("", "1")});
  rig.turn.sequence.sampling.logit_bias = {{5, std::numeric_limits<float>::infinity()}};
  auto held = std::make_shared<int>(0);
  ChatSink sink;
  sink.on_delta = [held](const ChatDelta&) {};
  VoteOptions o;
  o.n = 2;
  const auto refused = start_vote(*rig.engine, rig.turn, o, sink, {}, 0, [held](Result<ChatResult>) {});
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("logit_bias"), std::string::npos) << refused.error().message;
  sink = {};
  EXPECT_EQ(held.use_count(), 1) << "the vote holds its callbacks, and with them its request's id";
}

// ---- JSON.

TEST(VoteJson, ReadsEveryFormAndNamesWhatIsWrong) {
  const auto read = [](const char* text) { return parse_vote(ordered_json::parse(text), "vote"); };
  EXPECT_EQ((*read("8"))->n, 8);
  EXPECT_FALSE(*read("null"));
  EXPECT_FALSE(*read("false"));
  const auto full = read(R"({"n":16,"min":4,"stop":"never","method":"short","kind":"number","chains":true})");
  ASSERT_TRUE(full.ok());
  EXPECT_EQ((*full)->n, 16);
  EXPECT_EQ((*full)->min, 4);
  EXPECT_FALSE((*full)->settle);
  EXPECT_EQ((*full)->method, VoteOptions::Method::shortest);
  EXPECT_EQ((*full)->kind, reason::AnswerKind::number);
  EXPECT_TRUE((*full)->chains);
  EXPECT_EQ(to_json(**full).dump(), to_json(**parse_vote(ordered_json(to_json(**full)), "vote")).dump());
  EXPECT_EQ((*read(R"({"n":2})"))->min, 2);
  for (const auto& [text, wanted] :
       std::map<std::string, std::string>{{"0", "\"vote\" takes a whole number between 1 and 64"},
                                          {"65", "between 1 and 64"},
                                          {"2.5", "a whole number"},
                                          {"true", "\"vote\" takes a number of chains"},
                                          {"\"8\"", "\"vote\" takes a number of chains"},
                                          {"[8]", "\"vote\" takes"},
                                          {"{}", "needs \"n\""},
                                          {R"({"n":4,"min":5})", "\"vote.min\" is 5"},
                                          {R"({"n":4,"stop":0.95})", "\"vote.stop\" takes \"settled\" or \"never\""},
                                          {R"({"n":4,"method":"deepconf"})", "not built"},
                                          {R"({"n":4,"method":"loud"})", "\"vote.method\" takes"},
                                          {R"({"n":4,"kind":"poem"})", "\"vote.kind\" takes"},
                                          {R"({"n":4,"chains":1})", "\"vote.chains\" takes true or false"},
                                          {R"({"n":4,"votes":1})", "\"vote.votes\" is not known"}}) {
    const auto r = read(text.c_str());
    ASSERT_FALSE(r.ok()) << text;
    EXPECT_NE(r.error().message.find(wanted), std::string::npos) << r.error().message;
  }
  EXPECT_EQ((*parse_vote_text("8"))->n, 8);
  EXPECT_FALSE(*parse_vote_text("off"));
  EXPECT_FALSE(parse_vote_text("many").ok());
  EXPECT_EQ((*parse_vote_text(R"({"n":3,"chains":true})"))->n, 3);
}

TEST(VoteJson, ReportsSurviveTheRoundTrip) {
  VoteRig rig;
  rig.build({says("x", "1"), says("yy", "2"),
             Voice{"z", "no idea what to say about this, it is all too hard for me to know"}});
  VoteOptions o;
  o.n = 8, o.chains = true;
  const VoteOutcome out = rig.vote(o);
  const VoteReport& r = *out.done[0]->vote;
  EXPECT_EQ(to_json(vote_report_from(to_json(r, true)), true).dump(), to_json(r, true).dump());
  for (const auto& p : out.progress)
    EXPECT_EQ(to_json(vote_report_from(to_json(p, false)), false).dump(), to_json(p, false).dump());
  (void)vote_report_from(
      json::parse(R"({"chains":[1,{"state":7,"answer":[]}],"counts":[{"chains":["x"]},3],"winner":"me"})"));
  (void)vote_report_from(json(3));
}

}  // namespace
}  // namespace ponder::runtime
