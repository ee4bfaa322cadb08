// Steers the thought of one chain: budget, closing, extension, what a person says while it runs, and the ladder against
// loops. One of these per chain; everything happens on the engine's thread (the Steering is the door from other threads).
//
// How a thought ends that must: text that stops inside a character is taken back to the last whole one, then
//   [new line] closing sentence, new line, closing tag, empty line
// are forced, and the answer follows. The tokens that the model draws itself count against the budget, nothing else does.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/chat.h"
#include "engine/engine.h"
#include "reason/budget.h"
#include "reason/loop.h"
#include "reason/steering.h"
#include "tokenizer/tokenizer.h"

namespace ponder::reason {

/// What is done about a loop. ladder: the thought is taken back to its first round and drawn warmer; at the next loop it
/// concludes; a loop in the answer is drawn warmer, then the reply stops. The others begin further up.
enum class LoopPolicy : uint8_t { ladder, conclude, stop, off };

struct ThoughtSetup {
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;  // shared with the loaded model
  std::optional<chat::ThinkingTags> tags;                 ///< none: a model that does not think; loops are looked for
  bool starts_inside = false;                             ///< the prompt ends in an open thought
  bool off = false;                                       ///< the prompt holds a finished one: none may begin
  int tokens = -1;                                        ///< budget; negative: none
  double seconds = -1;                                    ///< budget; negative: none
  bool hard = false;
  std::optional<std::string> closing;  ///< sentence; unset: the house's, in the thought's language; empty: only the tag
  int extend = 0;                      ///< ends of the model's own that do not count
  LoopPolicy loop = LoopPolicy::ladder;
  int room = 1 << 30;                  ///< tokens the reply may have
  int answer = -1;                     ///< kept for the answer; negative: a quarter of the room, at most 1,024
  sample::Params params;               ///< the sequence's own
  uint32_t stream = 0;                 ///< the sequence's own; fresh ones are made from it
  std::function<double()> clock;       ///< seconds; empty: the system's
  std::shared_ptr<Steering> steering;  // shared with who gives commands; may be null
};

/// Words of `thinking_done_reason`.
namespace ended_by {
inline constexpr const char* kModel = "model";
inline constexpr const char* kBudget = "budget";
inline constexpr const char* kTime = "time";
inline constexpr const char* kUser = "user";
inline constexpr const char* kLoop = "loop";
inline constexpr const char* kOff = "off";
}  // namespace ended_by
inline constexpr const char* kFinishLoop = "loop";  ///< a sequence's reason to end

class Thought : public engine::Controller {
 public:
  explicit Thought(ThoughtSetup setup);

  engine::Decision on_start(std::span<const engine::TokenId> prompt) override;
  engine::Decision on_token(const engine::TokenEvent& event) override;
  engine::Decision on_step() override;
  void on_finish(const std::string& reason) override;

  /// What ended the thought; empty while it runs, or when there was none.
  const std::string& done_reason() const { return done_reason_; }
  int own_tokens() const { return own_; }  ///< drawn by the model inside the thought, tags not among them
  /// Most own tokens that the budget allows (a graceful one: with its window); -1: only the room limits it.
  int window() const { return budget_.window(); }
  const Budget& budget() const { return budget_; }  ///< how it stood at the last token or step

 private:
  enum class Stage : uint8_t { before, thinking, answering };
  struct Written {
    engine::TokenId id;
    bool forced;
  };

  engine::Decision think(const engine::TokenEvent& event);
  engine::Decision answer(const engine::TokenEvent& event);
  engine::Decision obey(std::vector<Command> commands);
  engine::Decision check_budget();
  engine::Decision break_loop(const LoopDetector::Found& found);
  engine::Decision close(const char* reason, const std::string& sentence);
  engine::Decision write_note(const std::string& text);
  engine::Decision go_on();

  void take_back_to(size_t n, engine::Decision& decision);
  void take_back_broken_character(engine::Decision& decision);
  void force(const std::string& text, bool tag, engine::Decision& decision);
  void add_params(engine::Decision& decision);
  void see(const Written& token);
  std::string lead() const;
  std::string closing_sentence() const;
  std::vector<engine::TokenId> encode(const std::string& text) const;
  uint32_t fresh_stream();
  double now() const;

  ThoughtSetup setup_;
  chat::ThinkingSplitter splitter_;
  Budget budget_;
  LoopDetector loop_;
  Stage stage_ = Stage::before;
  std::string done_reason_;
  std::vector<Written> written_;  // all tokens of the reply
  size_t base_ = 0;               // position of the first of them
  std::string text_;              // of the thought
  int own_ = 0;
  size_t forcing_ = 0;    // tokens we forced that have not joined yet
  bool closing_ = false;  // among them the closing tag
  int extends_ = 0;
  size_t loop_begin_ = 0;  // index in written_ of the detector's first token
  bool resampled_ = false, answer_resampled_ = false;
  int warm_ = 0;                         // draws that are still made warmer
  double bias_ = 0;                      // on the closing tag
  bool must_answer_ = false;             // we ended the thought: the answer may not be empty
  std::optional<sample::Params> given_;  // what the engine draws with, if not setup_.params
  uint32_t streams_ = 0;
  std::vector<Command> early_;  // given before the thought began
};

}  // namespace ponder::reason
