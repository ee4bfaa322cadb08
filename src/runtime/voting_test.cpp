// Votes in an engine that plays scripts: whatever the chains say, however batches are cut and whenever somebody hangs up,
// the winner's text is that of its own chain run alone, everything is told once and in order, and no page is left behind.
#include "runtime/voting.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <nlohmann/json.hpp>

#include "backend/scripted/scripted.h"
#include "runtime/vote_json.h"

namespace ponder::runtime {
namespace {

namespace scripted = backend::scripted;
using engine::TokenId;
using nlohmann::json;
using nlohmann::ordered_json;
using reason::VoteOptions;
using reason::VoteReport;

constexpr TokenId kOpen = 256, kClose = 257, kEnd = 258;
constexpr int kVocabulary = 259;

// A token a byte.
class Bytes : public tokenizer::Tokenizer {
 public:
  Bytes() {
    for (int i = 0; i < 256; ++i) pieces_.push_back(std::string(1, char(i)));
    pieces_.insert(pieces_.end(), {"<think>", "</think>", "<end>"});
  }
  std::vector<TokenId> encode(std::span<const tokenizer::Segment> segments,
                              const tokenizer::EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const auto& s : segments)
      for (const char c : s.text) ids.push_back(uint8_t(c));
    return ids;
  }
  std::string_view piece(TokenId id, bool control) const override {
    return id < 256 || control ? std::string_view(pieces_[size_t(id)]) : std::string_view();
  }
  int vocab_size() const override { return kVocabulary; }
  tokenizer::TokenKind kind(TokenId id) const override {
    return id < 256 ? tokenizer::TokenKind::normal : tokenizer::TokenKind::control;
  }
  std::optional<TokenId> find(std::string_view text) const override {
    for (TokenId i = 0; i < kVocabulary; ++i)
      if (pieces_[size_t(i)] == text) return i;
    return {};
  }
  std::optional<TokenId> bos() const override { return {}; }
  std::optional<TokenId> eos() const override { return kEnd; }
  bool add_bos() const override { return false; }
  bool add_eos() const override { return false; }
  std::span<const TokenId> end_of_generation() const override { return ends_; }
  std::string_view pre_tokenizer() const override { return "bytes"; }

 private:
  std::vector<std::string> pieces_;
  std::vector<TokenId> ends_ = {kEnd};
};

// What a model may say: the first token is drawn among the voices, all alike; each then says its own text.
struct Voice {
  std::string thought, answer;
  bool ends = true;
};

std::vector<TokenId> tokens_of(const Voice& v) {
  std::vector<TokenId> ids;
  for (const char c : v.thought) ids.push_back(uint8_t(c));
  ids.push_back(kClose);
  for (const char c : v.answer) ids.push_back(uint8_t(c));
  if (v.ends) ids.push_back(kEnd);
  return ids;
}

scripted::Script voices(const std::vector<Voice>& all, size_t prompt) {
  std::vector<std::vector<TokenId>> texts;
  for (const Voice& v : all) texts.push_back(tokens_of(v));
  return [texts, prompt](std::span<const TokenId> so_far, std::span<float> logits) {
    if (so_far.size() == prompt) {
      for (size_t v = 0; v < texts.size(); ++v) logits['a' + v] = 40;
      return;
    }
    const auto& text = texts[size_t(so_far[prompt] - 'a')];
    const size_t at = so_far.size() - prompt - 1;
    logits[size_t(at < text.size() ? text[at] : 'z')] = 40;
  };
}

struct Outcome {
  std::vector<VoteReport> progress;
  std::string thinking, content;
  std::vector<Result<ChatResult>> done;
  std::vector<std::string> order;  // what was told, in order
  int pages_after = 0;
};

struct Rig {
  std::vector<TokenId> prompt = std::vector<TokenId>(150, 'p');
  engine::EngineOptions engine_options;
  int64_t kv_tokens = 1 << 16;
  scripted::Options script_options;
  Turn turn;
  scripted::ScriptedPlan* plan = nullptr;
  std::unique_ptr<engine::Engine> engine;

  Rig() {
    script_options.vocab_size = kVocabulary;
    turn.reply.tokenizer = std::make_shared<Bytes>();
    turn.reply.tags = chat::ThinkingTags{{kOpen}, {kClose}, "<think>", "</think>"};
    turn.reply.starts_inside = true;
    turn.thought.tokenizer = turn.reply.tokenizer;
    turn.thought.tags = turn.reply.tags;
    turn.thought.starts_inside = true;
    turn.thought.loop = reason::LoopPolicy::off;  // voices of one letter are loops
    turn.sequence.end_tokens = {kEnd};
    turn.sequence.sampling.temperature = 1;
    turn.sequence.sampling.seed = 1;
  }

  void build(const std::vector<Voice>& all) {
    backend::PlanOptions plan_options;
    plan_options.kv_tokens = kv_tokens;
    plan_options.max_batch_rows = engine_options.max_batch_rows;
    plan_options.max_output_rows = engine_options.max_output_rows;
    auto made = scripted::make_plan(voices(all, prompt.size()), plan_options, script_options);
    plan = made.get();
    engine = engine::Engine::create(std::move(made), engine_options).value();
    turn.sequence.prompt = prompt;
  }
  ~Rig() {
    if (engine) {
      EXPECT_TRUE(plan->faults().empty()) << plan->faults()[0];
    }
  }

  // `cancel_after` steps every chain is cancelled, as the runtime does when a peer hangs up.
  Outcome vote(const VoteOptions& options, int cancel_after = -1) {
    Outcome o;
    ChatSink sink;
    auto held = std::make_shared<int>(0);
    std::weak_ptr<int> watch = held;
    sink.on_vote = [&o, held](VoteReport r) {
      o.order.push_back("progress");
      o.progress.push_back(std::move(r));
    };
    sink.on_delta = [&o](ChatDelta d) {
      o.order.push_back("text");
      o.thinking += d.thinking;
      o.content += d.content;
    };
    auto ids = start_vote(*engine, turn, options, sink, {}, 0, [&o](Result<ChatResult> r) {
      o.order.push_back("done");
      o.done.push_back(std::move(r));
    });
    EXPECT_TRUE(ids.ok()) << ids.error().message;
    sink = {};
    held.reset();
    int steps = 0;
    while (engine->step()) {
      if (steps++ == cancel_after)
        for (const auto id : *ids) engine->cancel(id);
      if (steps > 100000) {
        ADD_FAILURE() << "the vote does not come to an end";
        break;
      }
    }
    EXPECT_TRUE(watch.expired()) << "the vote holds its callbacks for ever";
    o.pages_after = engine->status().pages_used;
    return o;
  }

  // The request without a vote, from one stream.
  std::pair<std::string, std::string> alone(uint32_t stream) {
    std::pair<std::string, std::string> text;
    const Chain chain = make_chain(turn, [&](ChatDelta d) {
      text.first += d.thinking;
      text.second += d.content;
    });
    engine::SequenceRequest q = turn.sequence;
    q.stream = stream;
    q.controllers = chain.controllers;
    EXPECT_TRUE(engine->submit(std::move(q)).ok());
    while (engine->step()) {
    }
    return text;
  }
};

Voice says(const std::string& thought, const std::string& answer) {
  return {thought, "The answer is \\boxed{" + answer + "}."};
}

std::vector<Voice> random_voices(std::mt19937& random) {
  std::vector<Voice> all;
  const char* answers[] = {"42", "42.0", "\\frac{84}{2}", "41", "forty", "x"};
  for (int n = 1 + int(random() % 6); n > 0; --n) {
    Voice v = says(std::string(random() % 200, 't'), answers[random() % 6]);
    if (random() % 6 == 0)
      v.answer = "I would rather not say, as it is a long story that has no end and no beginning, and no answer";
    if (random() % 8 == 0) v.ends = false;  // runs into num_predict
    all.push_back(v);
  }
  return all;
}

TEST(Voting, EveryVoteTellsTheTruthAndLeavesNothingBehind) {
  std::mt19937 random(3);
  int settled = 0, silent = 0, split = 0;
  for (int i = 0; i < 150; ++i) {
    Rig rig;
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
    const Outcome out = rig.vote(o);
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
  Rig rig;
  rig.build({says("aaa", "1"), says("bbbb", "2"), says("c", "3")});
  VoteOptions o;
  o.n = 8, o.settle = false, o.chains = true;
  const Outcome out = rig.vote(o);
  const auto& chains = out.done[0]->vote->chains;
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(rig.alone(i), std::make_pair(chains[i].thinking, chains[i].content)) << i;
  std::set<std::string> different;
  for (const auto& c : chains) different.insert(c.thinking);
  EXPECT_EQ(different.size(), 3u) << "the streams draw for themselves";
}

TEST(Voting, LosersAreCancelledInTheStepOfTheDecision) {
  Rig rig;
  // One short voice and one that never ends: when the short ones have settled it, the rest must go.
  rig.build({says("s", "7"), Voice{std::string(5000, 'l'), "", false}});
  rig.turn.sequence.sampling.seed = 4;
  VoteOptions o;
  o.n = 8, o.min = 1, o.method = VoteOptions::Method::shortest;
  const Outcome out = rig.vote(o);
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
    Rig rig;
    rig.build({says(std::string(100, 's'), "7"), says(std::string(20, 's'), "7"), says("", "8")});
    rig.turn.sequence.sampling.seed = random();
    VoteOptions o;
    o.n = 8, o.settle = false;
    const int after = int(random() % 120);
    const Outcome out = rig.vote(o, after);
    ASSERT_EQ(out.done.size(), 1u);
    ASSERT_TRUE(out.done[0].ok());
    const ChatResult& r = *out.done[0];
    if (r.done_reason == "cancelled") {
      EXPECT_FALSE(r.vote->decided);
      EXPECT_EQ(out.content.empty(), r.vote->counts.empty()) << "who leads speaks";
      with_text += !out.content.empty();
    } else {
      EXPECT_TRUE(r.vote->decided);
    }
    EXPECT_LE(out.pages_after, 150 / 64);
    EXPECT_EQ(rig.engine->status().running + rig.engine->status().waiting, 0);
  }
  EXPECT_GT(with_text, 5);
}

TEST(Voting, StopStringsAndLimitsHoldForEveryChain) {
  Rig rig;
  rig.build({Voice{"think", "It is 5. STOP and more"}, Voice{"think longer", "It is 5. STOP"}});
  rig.turn.reply.stops = {"STOP"};
  VoteOptions o;
  o.n = 6, o.settle = false, o.chains = true;
  const Outcome out = rig.vote(o);
  EXPECT_EQ(out.content, "It is 5. ");
  EXPECT_EQ(out.done[0]->vote->answer, "5");
  for (const auto& c : out.done[0]->vote->chains) EXPECT_EQ(c.content, "It is 5. ");

  Rig cut;
  cut.build({says(std::string(50, 't'), "1"), says("", "2")});
  cut.turn.sequence.max_new_tokens = 40;
  const Outcome short_out = cut.vote(o);
  const auto& report = *short_out.done[0]->vote;
  EXPECT_GT(report.without_answer, 0);
  for (const auto& c : report.chains) {
    EXPECT_LE(c.tokens, 40);
    EXPECT_EQ(c.answer.has_value(), c.done_reason == "stop");
  }
}

TEST(Voting, ADeviceThatFailsIsReportedOnce) {
  for (const int failing : {0, 5, 40}) {
    Rig rig;
    rig.script_options.on_launch = [failing](const backend::Batch&, int step) -> Result<void> {
      if (step >= failing) return Error{ErrorCode::internal, "the device is gone"};
      return {};
    };
    rig.build({says(std::string(60, 't'), "1"), says("", "2")});
    VoteOptions o;
    o.n = 8, o.settle = false;
    const Outcome out = rig.vote(o);
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
  Rig rig;
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
  Rig rig;
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
  Rig rig;
  rig.build({says("x", "1"), says("yy", "2"),
             Voice{"z", "no idea what to say about this, it is all too hard for me to know"}});
  VoteOptions o;
  o.n = 8, o.chains = true;
  const Outcome out = rig.vote(o);
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
