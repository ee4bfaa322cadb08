// From tokens to what a person reads: one reply's stream of tokens is decoded, split into thought and answer, checked
// for stop strings and handed on in pieces. It is a controller of the engine, so that a stop string ends the sequence
// at the token that completes it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/chat.h"
#include "engine/engine.h"
#include "runtime/stop_matcher.h"
#include "runtime/types.h"
#include "tokenizer/tokenizer.h"

namespace ponder::runtime {

class Reply : public engine::Controller {
 public:
  struct Setup {
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
    std::optional<chat::ThinkingTags> tags;  ///< of a thinking model
    bool starts_inside = false;              ///< the prompt ends in an open thought
    bool continues = false;                  ///< ... or answer, in the middle of its text
    std::vector<std::string> stops;          ///< looked for in the answer only: a thought must not end a reply
    bool logprobs = false;
    std::function<void(ChatDelta)> deliver;
  };
  explicit Reply(Setup setup);

  engine::Decision on_token(const engine::TokenEvent& event) override;
  /// Hands on what was held back. Idempotent.
  void on_finish(const std::string& reason) override;

  int thinking_tokens() const { return splitter_.thinking_tokens(); }
  int answer_tokens() const { return splitter_.answer_tokens(); }
  /// All text that was delivered.
  const std::string& thinking() const { return thought_; }
  const std::string& content() const { return content_; }
  /// Tokens of the reply, the end token not among them.
  const std::vector<tokenizer::TokenId>& tokens() const { return tokens_; }

 private:
  void take(std::vector<chat::SplitPiece> pieces);
  void take_back_to(size_t n);
  void hand_on();
  TokenLogprob describe(const engine::TokenEvent& event) const;

  Setup setup_;
  chat::ThinkingSplitter splitter_;
  StopMatcher matcher_;
  std::vector<tokenizer::TokenId> tokens_;
  ChatDelta pending_;
  std::optional<int32_t> base_;  // position of the first token
  std::string thought_;          // as it was handed on or is pending
  std::string content_;          // as it was handed on
  bool finished_ = false;
};

}  // namespace ponder::runtime
