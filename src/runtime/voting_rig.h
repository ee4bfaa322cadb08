// What the tests of votes share: a vocabulary of bytes, a model that speaks with several voices, and a vote of it in an
// engine that is stepped by hand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/scripted/scripted.h"
#include "runtime/voting.h"

namespace ponder::runtime {

namespace scripted = backend::scripted;
using engine::TokenId;

inline constexpr TokenId kOpen = 256, kClose = 257, kEnd = 258;
inline constexpr int kVocabulary = 259;

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

inline std::vector<TokenId> tokens_of(const Voice& v) {
  std::vector<TokenId> ids;
  for (const char c : v.thought) ids.push_back(uint8_t(c));
  ids.push_back(kClose);
  for (const char c : v.answer) ids.push_back(uint8_t(c));
  if (v.ends) ids.push_back(kEnd);
  return ids;
}

// A voice whose thought is closed for it goes on with its answer. When something was written before the first draw, the
// first voice speaks.
inline scripted::Script voices(const std::vector<Voice>& all, size_t prompt) {
  std::vector<std::vector<TokenId>> texts;
  for (const Voice& v : all) texts.push_back(tokens_of(v));
  return [texts, prompt](std::span<const TokenId> so_far, std::span<float> logits) {
    if (so_far.size() == prompt) {
      for (size_t v = 0; v < texts.size(); ++v) logits['a' + v] = 40;
      return;
    }
    const size_t voice = size_t(so_far[prompt] - 'a');
    const auto& text = texts[voice < texts.size() ? voice : 0];
    size_t at = so_far.size() - prompt - 1;
    if (const auto closed = std::find(so_far.begin() + std::ptrdiff_t(prompt), so_far.end(), kClose);
        closed != so_far.end())
      at = size_t(std::find(text.begin(), text.end(), kClose) - text.begin()) + size_t(so_far.end() - closed);
    logits[size_t(at < text.size() ? text[at] : 'z')] = 40;
  };
}

struct VoteOutcome {
  std::vector<reason::VoteReport> progress;
  std::string thinking, content;
  std::vector<Result<ChatResult>> done;
  std::vector<std::string> order;  // what was told, in order
  int pages_after = 0;
  std::shared_ptr<VoteTape> tape = std::make_shared<VoteTape>();  // shared with the vote
};

struct VoteRig {
  std::vector<TokenId> prompt = std::vector<TokenId>(150, 'p');
  engine::EngineOptions engine_options;
  int64_t kv_tokens = 1 << 16;
  scripted::Options script_options;
  Turn turn;
  scripted::ScriptedPlan* plan = nullptr;
  std::unique_ptr<engine::Engine> engine;

  VoteRig() {
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
  ~VoteRig() {
    if (engine) {
      EXPECT_TRUE(plan->faults().empty()) << plan->faults()[0];
    }
  }

  // `at_step` is called before each step of the engine, with its number and the chains.
  using AtStep =
      std::function<void(int step, const std::vector<engine::SequenceId>& chains, const VoteOutcome& so_far)>;

  VoteOutcome vote(const reason::VoteOptions& options, const AtStep& at_step = {}) {
    VoteOutcome o;
    ChatSink sink;
    auto held = std::make_shared<int>(0);
    std::weak_ptr<int> watch = held;
    sink.on_vote = [&o, held](reason::VoteReport r) {
      o.order.push_back("progress");
      o.progress.push_back(std::move(r));
    };
    sink.on_delta = [&o](ChatDelta d) {
      o.order.push_back("text");
      EXPECT_EQ(d.thinking_retracted, 0) << "the winner speaks when all is decided";
      o.thinking += d.thinking;
      o.content += d.content;
    };
    const auto done = [&o](Result<ChatResult> r) {
      o.order.push_back("done");
      o.done.push_back(std::move(r));
    };
    auto ids = start_vote(*engine, turn, options, sink, {}, 0, done, o.tape);
    EXPECT_TRUE(ids.ok()) << ids.error().message;
    sink = {};
    held.reset();
    bool more = true;
    for (int step = 0;; ++step) {
      if (at_step) at_step(step, *ids, o);
      if (!more) break;
      more = engine->step();
      if (step > 100000) {
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
    ChatDelta text;
    Turn again = turn;
    again.ticket = nullptr;
    const Chain chain = make_chain(again, [&](ChatDelta d) { text.append(std::move(d)); }, stream);
    engine::SequenceRequest q = turn.sequence;
    q.stream = stream;
    q.controllers = chain.controllers;
    EXPECT_TRUE(engine->submit(std::move(q)).ok());
    while (engine->step()) {
    }
    return {text.thinking, text.content};
  }
};

inline Voice says(const std::string& thought, const std::string& answer) {
  return {thought, "The answer is \\boxed{" + answer + "}."};
}

inline std::vector<Voice> random_voices(std::mt19937& random) {
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

}  // namespace ponder::runtime
