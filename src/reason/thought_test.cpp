// Every state of a steered thought on a scripted model that writes nonsense: budgets of all kinds, closings, extension,
// commands, loops, cut characters, in random mixtures and under any chunking of the engine.
// Why this file is long: one author and one player of cases serve every state of the controller.
#include "reason/thought.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/utf8.h"
#include "engine/engine_rig.h"
#include "reason/language.h"
#include "reason/loop_corpus_support.h"
#include "reason/test_support.h"

namespace ponder::reason {
namespace {

using corpus::Dice;
using engine::TokenId;
namespace scripted = backend::scripted;

const tokenizer::Tokenizer& vocab() { return *testing::vocabulary(); }

chat::ThinkingTags tags() {
  chat::ThinkingTags t;
  t.open_text = "<think>";
  t.close_text = "</think>";
  t.open = {*vocab().find("<think>")};
  t.close = {*vocab().find("</think>")};
  return t;
}

// What the model of a case would write if it were left alone.
struct Author {
  uint64_t salt = 1;
  int length = 100;              // own tokens of the thought, then the closing tag; very large: never
  int answer = 10;               // tokens of the answer, then the end; 0: an empty one
  bool ends_in_thought = false;  // forgets the closing tag and ends its turn
  std::vector<TokenId> words;    // what it writes with
  std::vector<TokenId> round;    // not empty: it goes round in circles instead
};

scripted::Script write(const Author& a, int prompt) {
  const auto next = [a, prompt](std::span<const TokenId> so_far) -> TokenId {
    const TokenId close = tags().close[0], eos = *vocab().eos();
    const auto begin = so_far.begin() + prompt;
    const auto closed = std::find(begin, so_far.end(), close);
    Dice d(a.salt + uint64_t(so_far.size()) * 7919);
    if (closed == so_far.end()) {
      const int n = int(so_far.end() - begin);
      if (n >= a.length) return a.ends_in_thought ? eos : close;
      if (!a.round.empty()) return a.round[size_t(n) % a.round.size()];
      return a.words[size_t(d.next() % a.words.size())];
    }
    return int(so_far.end() - closed) - 1 >= a.answer ? eos : a.words[size_t(d.next() % a.words.size())];
  };
  return [a, next](std::span<const TokenId> so_far, std::span<float> logits) {
    Dice d(a.salt + uint64_t(so_far.size()));
    logits[size_t(d.of(a.words))] = 10;  // where it may not do what it would
    logits[size_t(next(so_far))] = 30;
  };
}

scripted::Options options() {
  scripted::Options o;
  o.vocab_size = vocab().vocab_size();
  o.seconds_per_step = 0.01;
  return o;
}

std::vector<TokenId> ids(const std::string& text) { return vocab().encode(text, false); }

std::vector<TokenId> english() {
  return ids("the lantern is in a garden. We count it again,\nand so on! What now? yes.\n");
}
std::vector<TokenId> chinese() { return ids("好的,我一步一步来算。小明有三个苹果!是吗?\n所以,"); }
// Bytes that are no characters by themselves among others that are.
std::vector<TokenId> broken() {
  std::vector<TokenId> all = english();
  for (TokenId id = 0; id < vocab().vocab_size(); ++id)
    if (const auto piece = vocab().piece(id, false); piece.size() == 1 && uint8_t(piece[0]) >= 0x80) all.push_back(id);
  return all;
}

// What is left of the events when everything taken back is gone, with what a reader of the reply would see.
struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<bool> forced;
  std::string thinking, content, reason, done_reason;
  int own = 0, window = -1;
};

Outcome outcome(const engine::Record& record, const Thought& thought, int prompt) {
  Outcome o;
  for (const auto& e : record.events) {
    const size_t at = size_t(e.position - prompt);
    EXPECT_LE(at, o.tokens.size()) << "a hole in the reply";
    o.tokens.resize(at);
    o.forced.resize(at);
    if (e.end) continue;
    o.tokens.push_back(e.token);
    o.forced.push_back(e.forced);
  }
  chat::ThinkingSplitter splitter(testing::vocabulary(), tags(), true);
  const auto take = [&](const std::vector<chat::SplitPiece>& pieces) {
    for (const auto& p : pieces) (p.channel == chat::Channel::thinking ? o.thinking : o.content) += p.text;
  };
  for (size_t i = 0; i < o.tokens.size(); ++i) {
    take(splitter.push(o.tokens[i]));
    o.own += splitter.inside_thought() && !o.forced[i];
  }
  take(splitter.finish());
  o.reason = record.reason();
  o.done_reason = thought.done_reason();
  o.window = thought.window();
  return o;
}

struct Case {
  Author author;
  ThoughtSetup setup;
  int max_new_tokens = 2000;
  int prompt = 40;
  int batch_rows = 512;
  std::vector<std::pair<int, Command>> commands;  // after so many steps of the engine
};

struct Played {
  Outcome o;
  engine::Record record;
  std::vector<int> effect;  // for each command: steps until something of it was seen
};

Played play(Case c) {
  engine::EngineOptions engine_options;
  engine_options.max_batch_rows = c.batch_rows;
  engine_options.max_output_rows = std::min(c.batch_rows, engine_options.max_output_rows);
  engine::Rig rig(write(c.author, c.prompt), engine_options, options());
  c.setup.tokenizer = testing::vocabulary();
  if (!c.setup.tags) c.setup.tags = tags();
  c.setup.starts_inside = true;
  c.setup.room = std::min(c.setup.room, c.max_new_tokens);
  c.setup.params.temperature = 0;
  c.setup.clock = [p = rig.plan] { return p->now(); };
  c.setup.steering = std::make_shared<Steering>();
  auto thought = std::make_shared<Thought>(c.setup);
  Played run;
  engine::SequenceRequest r =
      engine::request(std::vector<TokenId>(size_t(c.prompt), 300), run.record, c.max_new_tokens);
  r.end_tokens = {*vocab().eos()};
  r.controllers = {thought};
  rig.submit(std::move(r));
  int steps = 0;
  std::vector<std::pair<int, size_t>> posted;  // step, events then
  for (;; ++steps) {
    for (const auto& [at, command] : c.commands)
      if (at == steps && c.setup.steering->post(command).ok()) posted.emplace_back(steps, run.record.events.size());
    if (!rig.engine->step()) break;
    if (steps > 20000) {
      ADD_FAILURE() << "the engine does not come to an end";
      break;
    }
  }
  run.o = outcome(run.record, *thought, c.prompt);
  EXPECT_EQ(run.o.own, thought->own_tokens());
  return run;
}

size_t occurrences(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

const std::string kClosing = phrases(Language::english).closing;

TEST(Thought, EndsByItselfWithinItsBudget) {
  Case c;
  c.author.words = english();
  c.author.length = 50;
  c.setup.tokens = 100;
  const Played r = play(c);
  EXPECT_EQ(r.o.done_reason, "model");
  EXPECT_EQ(r.o.own, 50);
  EXPECT_EQ(r.o.reason, "stop");
  EXPECT_EQ(occurrences(r.o.thinking, kClosing), 0u);
}

TEST(Thought, HardBudgetClosesAtTheToken) {
  for (const int budget : {1, 2, 16, 100}) {
    Case c;
    c.author.words = english();
    c.author.length = 100000;
    c.setup.tokens = budget;
    c.setup.hard = true;
    c.setup.closing = "That is enough.";
    const Played r = play(c);
    EXPECT_EQ(r.o.done_reason, "budget");
    EXPECT_EQ(r.o.own, budget);
    EXPECT_TRUE(r.o.thinking.ends_with("That is enough.")) << r.o.thinking;
    EXPECT_FALSE(r.o.content.empty());
    EXPECT_EQ(r.o.reason, "stop");
  }
}

TEST(Thought, GracefulBudgetWaitsForTheSentence) {
  int sentences = 0;
  for (int i = 0; i < 50; ++i) {
    Case c;
    c.author.words = english();
    c.author.salt = uint64_t(i);
    c.author.length = 100000;
    c.setup.tokens = 200;
    const Played r = play(c);
    EXPECT_EQ(r.o.done_reason, "budget");
    EXPECT_GE(r.o.own, 200);
    EXPECT_LE(r.o.own, 220);
    const size_t at = r.o.thinking.find(kClosing);
    ASSERT_NE(at, std::string::npos);
    std::string before = r.o.thinking.substr(0, at);
    if (r.o.own < 220) {
      while (before.ends_with("\n") && !ends_sentence(before.substr(0, before.size() - 1))) before.pop_back();
      EXPECT_TRUE(ends_sentence(before)) << before.substr(before.size() - 30);
      ++sentences;
    }
  }
  EXPECT_GT(sentences, 40) << "this author ends a sentence every few words";
}

TEST(Thought, ClosesInTheLanguageOfTheThought) {
  Case c;
  c.author.words = chinese();
  c.author.length = 100000;
  c.setup.tokens = 60;
  EXPECT_EQ(occurrences(play(c).o.thinking, phrases(Language::chinese).closing), 1u);
}

TEST(Thought, SoftZoneMakesTheTagLikelier) {
  // A model that is in two minds at the end of every sentence ends its thought before it is ended.
  const TokenId close = tags().close[0];
  const auto words = english();
  const auto script = [&](std::span<const TokenId> so_far, std::span<float> logits) {
    const bool closed = std::find(so_far.begin() + 4, so_far.end(), close) != so_far.end();
    Dice d(uint64_t(so_far.size()));
    logits[size_t(words[size_t(d.next() % words.size())])] = 10;
    logits[size_t(close)] = closed ? -100.f : 6.f;
    if (closed) logits[size_t(*vocab().eos())] = 20;
  };
  engine::Rig rig(script, {}, options());
  ThoughtSetup s;
  s.tokenizer = testing::vocabulary();
  s.tags = tags();
  s.starts_inside = true;
  s.tokens = 300;
  s.params.temperature = 0;
  auto thought = std::make_shared<Thought>(s);
  engine::Record record;
  auto r = engine::request({300, 301, 302, 303}, record, 2000);
  r.end_tokens = {*vocab().eos()};
  r.controllers = {thought};
  rig.submit(std::move(r));
  rig.run();
  EXPECT_EQ(thought->done_reason(), "model");
  EXPECT_GE(thought->own_tokens(), 255);
  EXPECT_LT(thought->own_tokens(), 300);
}

TEST(Thought, ATimeEndsIt) {
  Case c;
  c.author.words = english();
  c.author.length = 100000;
  c.setup.seconds = 2;  // 0.01 s a step: 200 tokens
  const Played r = play(c);
  EXPECT_EQ(r.o.done_reason, "time");
  EXPECT_NEAR(r.o.own, 205, 20);
  EXPECT_EQ(occurrences(r.o.thinking, kClosing), 1u);
}

TEST(Thought, AThoughtNeverEatsTheAnswer) {
  for (const int room : {6, 10, 40, 100, 1000}) {
    Case c;
    c.author.words = english();
    c.author.length = 100000;
    c.author.answer = 100000;
    c.max_new_tokens = room;
    const Played r = play(c);
    EXPECT_EQ(r.o.reason, "length") << room;
    EXPECT_EQ(r.o.done_reason, "budget") << room;
    EXPECT_FALSE(r.o.content.empty()) << room;
    EXPECT_EQ(int(r.o.tokens.size()), room);
  }
}

TEST(Thought, ATurnThatEndsInsideTheThoughtStillAnswers) {
  Case c;
  c.author.words = english();
  c.author.length = 30;
  c.author.ends_in_thought = true;
  const Played r = play(c);
  EXPECT_EQ(r.o.reason, "stop");
  EXPECT_EQ(r.o.done_reason, "model");
  EXPECT_EQ(r.o.own, 30);
  EXPECT_FALSE(r.o.content.empty());
}

TEST(Thought, ExtendAnswersTheModelsEndWithWait) {
  Case c;
  c.author.words = english();
  c.author.length = 30;
  c.setup.extend = 2;
  // Its own end comes again at once: the author counts tokens, and the forced ones are past its length.
  const Played r = play(c);
  EXPECT_EQ(r.o.done_reason, "model");
  EXPECT_EQ(occurrences(r.o.thinking, "Wait"), 2u);
  EXPECT_EQ(r.o.reason, "stop");
}

// A vocabulary without the tags: the model spells them, and cuts them with what follows.
TEST(Thought, TagsThatAreSpelled) {
  chat::ThinkingTags spelled;
  spelled.open_text = "<mind>";
  spelled.close_text = "</mind>";
  spelled.open = ids("<mind>");
  spelled.close = ids("</mind>");
  ASSERT_GT(spelled.close.size(), 1u);
  const auto closing = ids("</mind>\n\nDone now.");
  const auto words = english();
  const TokenId eos = *vocab().eos();
  const auto script = scripted::say([&](std::span<const TokenId> so_far) -> TokenId {
    const std::string text = vocab().decode(so_far.subspan(4), true);
    const size_t closed = text.rfind("</mind>");
    if (closed == std::string::npos) {
      // Its end, token by token, after thirty words.
      const size_t n = so_far.size() - 4;
      if (n < 30) return words[n % words.size()];
      for (size_t k = std::min(closing.size() - 1, n - 30) + 1; k-- > 0;)
        if (std::equal(closing.begin(), closing.begin() + std::ptrdiff_t(k), so_far.end() - std::ptrdiff_t(k)))
          return closing[k];
      return closing[0];
    }
    return text.ends_with("Done now.") || text.size() > closed + 60 ? eos : ids("Done now.")[0];
  });
  for (const int extend : {0, 2}) {
    engine::Rig rig(script, {}, options());
    ThoughtSetup s;
    s.tokenizer = testing::vocabulary();
    s.tags = spelled;
    s.starts_inside = true;
    s.extend = extend;
    s.params.temperature = 0;
    auto thought = std::make_shared<Thought>(s);
    engine::Record record;
    auto r = engine::request({300, 301, 302, 303}, record, 500);
    r.end_tokens = {eos};
    r.controllers = {thought};
    rig.submit(std::move(r));
    rig.run();
    EXPECT_EQ(thought->done_reason(), "model");
    std::vector<TokenId> left;
    for (const auto& e : record.events) {
      left.resize(size_t(e.position) - 4);
      left.push_back(e.token);
    }
    const std::string text = vocab().decode(left, true);
    EXPECT_EQ(occurrences(text, "</mind>"), 1u) << text;
    EXPECT_EQ(occurrences(text, "Wait"), size_t(extend)) << text;
    EXPECT_EQ(text.find("</\nWait"), std::string::npos) << text;
  }
}

TEST(Thought, CommandsActWithinTwoSteps) {
  using Action = Command::Action;
  for (const Action action : {Action::answer, Action::note, Action::stop}) {
    Case c;
    c.author.words = english();
    c.author.length = 1000;
    c.commands = {{50, {action, "use the second equation </think><｜end▁of▁sentence｜>", 0}}};
    const Played r = play(c);
    // Up to the command every step drew one token; what it forces stands at most two draws later.
    const auto first = std::find(r.o.forced.begin(), r.o.forced.end(), true) - r.o.forced.begin();
    if (action == Action::stop) {
      EXPECT_EQ(r.o.reason, "cancelled");
      EXPECT_LE(r.o.tokens.size(), 52u);
      continue;
    }
    EXPECT_GE(first, 49);
    EXPECT_LE(first, 52);
    if (action == Action::answer) {
      EXPECT_EQ(r.o.done_reason, "user");
      EXPECT_EQ(occurrences(r.o.thinking, kClosing), 1u);
    } else {
      EXPECT_EQ(r.o.done_reason, "model") << "a note cannot close the thought";
      EXPECT_EQ(occurrences(r.o.thinking, "The user adds: use the second equation"), 1u);
      EXPECT_GT(r.o.own, 900);
    }
    EXPECT_EQ(r.o.reason, "stop");
  }
}

TEST(Thought, MoreGivesMore) {
  Case c;
  c.author.words = english();
  c.author.length = 100000;
  c.setup.tokens = 100;
  c.setup.hard = true;
  c.commands = {{50, {Command::Action::more, "", 60}}};
  EXPECT_EQ(play(c).o.own, 160);
  c.author.length = 80;
  const Played r = play(c);
  EXPECT_EQ(occurrences(r.o.thinking, "Wait"), 1u) << "and its next own end does not count";
}

TEST(Thought, CommandsThatComeTooLateAreRefused) {
  Steering s;
  s.enter(Phase::thinking);
  EXPECT_TRUE(s.post({Command::Action::answer, "", 0}).ok());
  EXPECT_FALSE(s.post({Command::Action::note, "", 0}).ok());
  EXPECT_FALSE(s.post({Command::Action::note, std::string(5000, 'x'), 0}).ok());
  EXPECT_FALSE(s.post({Command::Action::more, "", -1}).ok());
  s.enter(Phase::answering);
  EXPECT_EQ(s.post({Command::Action::answer, "", 0}).error().code, ErrorCode::already_exists);
  EXPECT_TRUE(s.post({Command::Action::stop, "", 0}).ok());
  for (int i = 0; i < 20; ++i) (void)s.post({Command::Action::stop, "", 0});
  EXPECT_EQ(s.take().size(), 16u);
  s.enter(Phase::done);
  EXPECT_EQ(s.post({Command::Action::stop, "", 0}).error().code, ErrorCode::not_found);
}

TEST(Thought, LoopLadder) {
  const auto round = ids("Wait, let me check this again. The lantern is in the garden. ");
  Case c;
  c.author.words = english();
  c.author.length = 100000;
  c.author.round = round;
  // This author loops whatever the temperature: resampled once, then it concludes.
  Played r = play(c);
  EXPECT_EQ(r.o.done_reason, "loop");
  EXPECT_EQ(occurrences(r.o.thinking, phrases(Language::english).repeating), 1u);
  EXPECT_EQ(r.o.reason, "stop");
  EXPECT_FALSE(r.o.content.empty());
  EXPECT_LT(r.o.own, 2 * int(round.size()) + 16) << "the rounds were taken back";
  EXPECT_LT(r.record.events.size(), 1200u);
  c.setup.loop = LoopPolicy::stop;
  r = play(c);
  EXPECT_EQ(r.o.reason, "loop");
  EXPECT_EQ(r.o.done_reason, "loop");
  EXPECT_LE(r.o.tokens.size(), 512u);
  c.setup.loop = LoopPolicy::conclude;
  EXPECT_LT(play(c).record.events.size(), 600u);
  c.setup.loop = LoopPolicy::off;
  c.max_new_tokens = 1500;
  EXPECT_EQ(play(c).o.done_reason, "budget");
}

TEST(Thought, ALoopInTheAnswerStops) {
  Case c;
  c.author.words = {ids("ha")[0]};
  c.author.length = 5;
  c.author.answer = 100000;
  const Played r = play(c);
  EXPECT_EQ(r.o.reason, "loop");
  EXPECT_EQ(r.o.done_reason, "model");
  EXPECT_LT(r.o.tokens.size(), 1024u);
}

TEST(Thought, OffNeverBegins) {
  // A model that would open a thought although the prompt closed one.
  const TokenId open = tags().open[0];
  const auto script = [&](std::span<const TokenId> so_far, std::span<float> logits) {
    logits[size_t(open)] = so_far.size() == 4 ? 20.f : 0.f;
    logits[size_t(english()[so_far.size() % english().size()])] = 10;
    if (so_far.size() > 20) logits[size_t(*vocab().eos())] = 30;
  };
  engine::Rig rig(script, {}, options());
  ThoughtSetup s;
  s.tokenizer = testing::vocabulary();
  s.tags = tags();
  s.off = true;
  s.params.temperature = 0;
  auto thought = std::make_shared<Thought>(s);
  engine::Record record;
  auto r = engine::request({300, 301, 302, 303}, record, 2000);
  r.end_tokens = {*vocab().eos()};
  r.controllers = {thought};
  rig.submit(std::move(r));
  rig.run();
  EXPECT_EQ(thought->done_reason(), "off");
  for (const TokenId t : record.tokens()) EXPECT_NE(t, open);
  EXPECT_EQ(record.reason(), "stop");
}

// Random mixtures of everything. What must hold is what docs/thinking.md promises.
TEST(Thought, PromisesHoldInEveryMixture) {
  std::set<std::string> seen;
  for (int i = 0; i < 600; ++i) {
    Dice d{uint64_t(i)};
    Case c;
    c.author.salt = d.next();
    c.author.words = i % 3 == 0 ? english() : i % 3 == 1 ? chinese() : broken();
    c.author.length = d.in(0, 3) == 0 ? 100000 : d.in(0, 400);
    c.author.answer = d.in(0, 40);
    c.author.ends_in_thought = d.in(0, 4) == 0;
    if (d.in(0, 5) == 0)
      for (int k = d.in(1, 60); k > 0; --k) c.author.round.push_back(d.of(c.author.words));
    c.prompt = d.in(1, 200);
    c.batch_rows = d.in(0, 2) == 0 ? d.in(1, 8) : 512;
    c.max_new_tokens = d.in(0, 2) == 0 ? d.in(8, 200) : 1500;
    if (d.in(0, 2)) c.setup.tokens = d.in(1, 300);
    if (d.in(0, 3) == 0) c.setup.seconds = d.in(1, 300) * 0.01;
    c.setup.hard = d.in(0, 1);
    if (d.in(0, 3) == 0) c.setup.closing = "Enough of that, here it comes.";
    if (d.in(0, 3) == 0) c.setup.answer = d.in(0, 50);
    c.setup.extend = d.in(0, 4) == 0 ? d.in(1, 3) : 0;
    bool more = false, stopped = false;
    for (int k = d.in(0, 3); k > 0; --k) {
      const auto action = Command::Action(d.in(0, 15) == 0 ? 3 : d.in(0, 2));
      more |= action == Command::Action::more;
      stopped |= action == Command::Action::stop;
      c.commands.push_back({d.in(0, 300), {action, "count 苹果 again", d.in(0, 50)}});
    }
    const Played r = play(c);
    const Outcome& o = r.o;
    const std::string what = "case " + std::to_string(i) + ": " + o.reason + ", thought ended by " + o.done_reason;
    SCOPED_TRACE(what + "\n" + o.thinking + "\n---\n" + o.content);
    seen.insert(o.done_reason + " " + o.reason);
    ASSERT_EQ(r.record.finished.size(), 1u);
    EXPECT_FALSE(o.reason.empty());
    if (c.setup.tokens >= 0 && !more) {
      EXPECT_LE(o.own, o.window);
    }
    EXPECT_LE(int(o.tokens.size()), c.max_new_tokens);
    if (stopped && o.reason == "cancelled") continue;
    EXPECT_FALSE(o.done_reason.empty()) << "a thought always ends, and says why";
    // The answer is there; an author that closed its thought itself may have had none to give.
    const bool by_us = o.done_reason != "model" || c.author.ends_in_thought;
    if (by_us && o.reason != "loop") {
      EXPECT_GT(o.tokens.size(), 0u);
    }
    if (by_us && o.reason == "stop") {
      EXPECT_FALSE(o.content.empty());
    }
    // The closing sentence stands there once, or not at all when the model ended or there was no room.
    const std::string mine = c.setup.closing.value_or("");
    size_t times = mine.empty() ? 0 : occurrences(o.thinking, mine);
    if (mine.empty())
      for (int l = 0; l <= int(Language::italian); ++l) times += occurrences(o.thinking, phrases(Language(l)).closing);
    EXPECT_LE(times, 1u);
    const bool sentence = o.done_reason == "budget" || o.done_reason == "time" || o.done_reason == "user";
    if (!sentence) {
      EXPECT_EQ(times, 0u);
    }
    if (sentence && c.max_new_tokens > 200) {
      EXPECT_EQ(times, 1u);
    }
    // Where we cut, the text before is whole characters. (What the author itself breaks off inside stays as it was.)
    if (by_us && o.done_reason != "") {
      size_t tag = size_t(std::find(o.tokens.begin(), o.tokens.end(), tags().close[0]) - o.tokens.begin());
      while (tag > 0 && o.forced[tag - 1]) --tag;
      const std::string before = vocab().decode(std::span(o.tokens).first(tag), true);
      EXPECT_EQ(incomplete_tail(before), 0u);
    }
    EXPECT_TRUE(utf8::is_valid(o.thinking + o.content));
  }
  EXPECT_GE(seen.size(), 9u) << "the mixtures reach every end";
}

}  // namespace
}  // namespace ponder::reason
