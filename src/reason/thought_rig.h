// What the tests of a steered thought share: a scripted author who writes nonsense or goes round in circles, a player who
// runs it under a Thought in an engine, and what a reader sees of the reply in the end.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine_rig.h"
#include "engine/text_drafter.h"
#include "reason/language.h"
#include "reason/loop_corpus_support.h"
#include "reason/test_support.h"
#include "reason/thought.h"

namespace ponder::reason::testing {

using corpus::Dice;
using engine::TokenId;
namespace scripted = backend::scripted;

inline const tokenizer::Tokenizer& vocab() { return *vocabulary(); }

inline chat::ThinkingTags tags() {
  chat::ThinkingTags t;
  t.open_text = "<think>";
  t.close_text = "</think>";
  t.open = {*vocab().find("<think>")};
  t.close = {*vocab().find("</think>")};
  return t;
}

inline std::vector<TokenId> ids(const std::string& text) { return vocab().encode(text, false); }

inline std::vector<TokenId> english() {
  return ids("the lantern is in a garden. We count it again,\nand so on! What now? yes.\n");
}
inline std::vector<TokenId> chinese() { return ids("好的,我一步一步来算。小明有三个苹果!是吗?\n所以,"); }
/// Bytes that are no characters by themselves among others that are.
inline std::vector<TokenId> broken() {
  std::vector<TokenId> all = english();
  for (TokenId id = 0; id < vocab().vocab_size(); ++id)
    if (const auto piece = vocab().piece(id, false); piece.size() == 1 && uint8_t(piece[0]) >= 0x80) all.push_back(id);
  return all;
}

/// What the model of a case would write if it were left alone.
struct Author {
  uint64_t salt = 1;
  int opening = -1;              ///< tokens before it opens its thought itself; -1: the prompt has opened it
  bool thinks = true;            ///< false: all is answer
  int length = 100;              ///< own tokens of the thought, then the closing tag; very large: never
  int answer = 10;               ///< tokens of the answer, then the end; 0: an empty one
  bool ends_in_thought = false;  ///< forgets the closing tag and ends its turn
  std::vector<TokenId> words;    ///< what it writes with
  std::vector<TokenId> before;   ///< of the thought, before the rounds
  std::vector<TokenId> round;    ///< not empty: the thought goes round in circles
  std::vector<TokenId> chorus;   ///< not empty: so does the answer
};

inline scripted::Script write(const Author& a, int prompt) {
  const auto next = [a, prompt](std::span<const TokenId> so_far) -> TokenId {
    const TokenId open = tags().open[0], close = tags().close[0], eos = *vocab().eos();
    auto begin = so_far.begin() + prompt;
    Dice d(a.salt + uint64_t(so_far.size()) * 7919);
    const auto answer = [&](size_t said) -> TokenId {
      if (int(said) >= a.answer) return eos;
      return a.chorus.empty() ? d.of(a.words) : a.chorus[said % a.chorus.size()];
    };
    if (!a.thinks) return answer(size_t(so_far.end() - begin));
    if (a.opening >= 0) {
      const auto opened = std::find(begin, so_far.end(), open);
      if (opened == so_far.end()) return so_far.end() - begin >= a.opening ? open : ids("\n")[0];
      begin = opened + 1;
    }
    const auto closed = std::find(begin, so_far.end(), close);
    const size_t n = size_t((closed == so_far.end() ? so_far.end() : closed) - begin);
    if (closed == so_far.end()) {
      if (int(n) >= a.length) return a.ends_in_thought ? eos : close;
      if (n < a.before.size()) return a.before[n];
      if (!a.round.empty()) return a.round[(n - a.before.size()) % a.round.size()];
      return d.of(a.words);
    }
    return answer(size_t(so_far.end() - closed) - 1);
  };
  return [a, next](std::span<const TokenId> so_far, std::span<float> logits) {
    Dice d(a.salt + uint64_t(so_far.size()));
    logits[size_t(d.of(a.words))] = 10;  // where it may not do what it would
    logits[size_t(next(so_far))] = 30;
  };
}

inline scripted::Options script_options() {
  scripted::Options o;
  o.vocab_size = vocab().vocab_size();
  o.seconds_per_step = 0.01;
  return o;
}

/// What is left of the events when everything taken back is gone, with what a reader of the reply would see.
struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<bool> forced;
  std::string thinking, content, reason, done_reason;
  int own = 0, window = -1;
};

inline Outcome outcome(const engine::Record& record, const Thought& thought, int prompt, bool starts_inside = true) {
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
  chat::ThinkingSplitter splitter(vocabulary(), tags(), starts_inside);
  const auto take = [&](const std::vector<chat::SplitPiece>& pieces) {
    for (const auto& p : pieces) (p.channel == chat::Channel::thinking ? o.thinking : o.content) += p.text;
  };
  for (size_t i = 0; i < o.tokens.size(); ++i) {
    const bool inside = splitter.inside_thought();
    take(splitter.push(o.tokens[i]));
    o.own += inside && splitter.inside_thought() && !o.forced[i];
  }
  take(splitter.finish());
  o.reason = record.reason();
  o.done_reason = thought.done_reason();
  o.window = thought.window();
  return o;
}

struct Case {
  Case() { setup.params.temperature = 0; }
  Author author;
  ThoughtSetup setup;
  int max_new_tokens = 2000;
  int prompt = 40;
  int batch_rows = 512;
  bool drafts = false;                            ///< from the text itself
  int neighbours = 0;                             ///< sequences that run beside it
  std::vector<std::pair<int, Command>> commands;  ///< after so many steps of the engine
};

/// A command as it was met, and when something of it was seen.
struct Effect {
  Command::Action action;
  Phase phase = Phase::waiting;
  bool accepted = false;
  int steps = -1;  ///< of the engine, until it acted; -1: it did not, or had nothing to do
};

struct Played {
  Outcome o;
  engine::Record record;
  engine::Recording recording;
  std::vector<Effect> effects;
  std::vector<std::pair<Budget::State, Budget::Cause>> budget;  ///< as it was after each step
};

/// Asks after each of the thought's decisions how its budget stands.
struct BudgetProbe : engine::Controller {
  BudgetProbe(const Thought& thought, Played& played) : thought(thought), played(played) {}
  engine::Decision on_token(const engine::TokenEvent&) override {
    played.budget.emplace_back(thought.budget().state(), thought.budget().cause());
    return {};
  }
  const Thought& thought;
  Played& played;
};

inline Played play(Case c) {
  engine::EngineOptions engine_options;
  engine_options.max_batch_rows = c.batch_rows;
  engine_options.max_output_rows = std::min(c.batch_rows, engine_options.max_output_rows);
  engine::Rig rig(write(c.author, c.prompt), engine_options, script_options());
  c.setup.tokenizer = vocabulary();
  if (!c.setup.tags) c.setup.tags = tags();
  c.setup.starts_inside = c.author.opening < 0 && c.author.thinks;
  c.setup.room = std::min(c.setup.room, c.max_new_tokens);
  c.setup.clock = [p = rig.plan] { return p->now(); };
  c.setup.steering = std::make_shared<Steering>();
  auto thought = std::make_shared<Thought>(c.setup);
  Played run;
  const auto recording = std::make_shared<engine::Recording>();
  engine::SequenceRequest r =
      engine::request(std::vector<TokenId>(size_t(c.prompt), 300), run.record, c.max_new_tokens);
  r.end_tokens = {*vocab().eos()};
  r.controllers = {thought, std::make_shared<BudgetProbe>(*thought, run)};
  r.sampling = c.setup.params;
  r.recording = recording;
  if (c.drafts) r.drafter = std::make_shared<engine::TextDrafter>(std::make_shared<engine::Phrases>(12), 8);
  std::vector<engine::Record> beside(size_t(c.neighbours));
  for (auto& record : beside) rig.submit(engine::request(std::vector<TokenId>(size_t(c.prompt), 301), record, 3000));
  rig.submit(std::move(r));

  struct Waiting {
    size_t effect, events;
    int step, window;
  };
  std::vector<Waiting> waiting;
  for (int steps = 0;; ++steps) {
    for (const auto& [at, command] : c.commands) {
      if (at != steps || !run.record.finished.empty()) continue;
      Effect e{command.action, c.setup.steering->phase()};
      e.accepted = c.setup.steering->post(command).ok();
      if (e.accepted) waiting.push_back({run.effects.size(), run.record.events.size(), steps, thought->window()});
      run.effects.push_back(e);
    }
    const bool more = rig.engine->step();
    std::erase_if(waiting, [&](const Waiting& w) {
      Effect& e = run.effects[w.effect];
      const auto& events = run.record.events;
      using Action = Command::Action;
      const bool acted = e.action == Action::stop   ? !run.record.finished.empty()
                         : e.action == Action::more ? thought->window() > w.window
                                                    : std::any_of(events.begin() + std::ptrdiff_t(w.events),
                                                                  events.end(), [](const auto& x) { return x.forced; });
      if (acted) e.steps = steps + 1 - w.step;
      return acted;
    });
    if (!more || (!run.record.finished.empty() && c.neighbours > 0)) break;  // the others have nothing to say
    if (steps > 20000) {
      ADD_FAILURE() << "the engine does not come to an end";
      break;
    }
  }
  run.recording = *recording;
  run.o = outcome(run.record, *thought, c.prompt, c.setup.starts_inside);
  EXPECT_EQ(run.o.own, thought->own_tokens());
  return run;
}

inline size_t occurrences(const std::string& text, const std::string& what) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

}  // namespace ponder::reason::testing
