// A steered thought on a scripted model that writes nonsense: budgets, closings, extension, commands, loops, one by one.
// All of them in random mixtures: promises_test.cpp.
#include "reason/thought.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "reason/thought_rig.h"

namespace ponder::reason {
namespace {

using namespace testing;  // NOLINT: the rig is this file's vocabulary

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
  engine::Rig rig(script, {}, script_options());
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
    engine::Rig rig(script, {}, script_options());
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

// The promise in steps of the engine, whatever its batches hold and whoever runs beside.
TEST(Thought, EveryCommandActsWithinTwoStepsOfTheEngine) {
  using Action = Command::Action;
  for (const int rows : {1, 5, 64, 512}) {
    for (const int neighbours : {0, 4}) {
      if (rows <= neighbours) continue;  // who gets no row in a step cannot act in it
      for (const Action action : {Action::answer, Action::more, Action::note, Action::stop}) {
        for (int at = 45; at < 400; at += 23) {
          Case c;
          c.author.words = english();
          c.author.length = 1 << 30;
          c.author.salt = uint64_t(at);
          c.setup.tokens = 1000;
          c.batch_rows = rows;
          c.neighbours = neighbours;
          c.drafts = at % 2;
          c.prompt = rows == 1 ? 10 : 40;
          c.commands = {{at, {action, "use the second equation", 0}}, {at + 5, {Action::stop, "", 0}}};
          const Played r = play(c);
          ASSERT_GE(r.effects.size(), 1u);
          ASSERT_TRUE(r.effects[0].accepted);
          EXPECT_EQ(r.effects[0].phase, Phase::thinking);
          EXPECT_GE(r.effects[0].steps, 1);
          EXPECT_LE(r.effects[0].steps, 2)
              << rows << " rows, " << neighbours << " beside, action " << int(action) << " at " << at;
        }
      }
    }
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
  engine::Rig rig(script, {}, script_options());
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

}  // namespace
}  // namespace ponder::reason
