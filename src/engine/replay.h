// Repeats a recorded sequence: a controller that carries out what was recorded, where it was recorded, and a drafter that
// proposes the recorded text, so that it is checked at the speed of a prompt. Use one object as the only controller and
// as the drafter of a request that has the recorded prompt, parameters, stream, end tokens and limits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/recording.h"

namespace ponder::engine {

class Replay final : public Controller, public Drafter {
 public:
  /// `reason`: how the recorded sequence ended.
  Replay(Recording recording, std::string reason);

  /// The error of a recording that no engine can have written (actions that contradict each other, masks left out
  /// or unlike what mask_runs() writes).
  static Result<void> check(const Recording& recording, int prompt_size, int vocab_size);

  Decision on_start(std::span<const TokenId> prompt) override;
  Decision on_token(const TokenEvent& event) override;
  sample::MaskWords mask() override { return mask_; }
  int propose(std::span<const TokenId> tokens, std::span<Draft> draft) override;

  struct Difference {
    int index = 0;                      ///< tokens before it that were as recorded (dropped ones count)
    int32_t position = 0;               ///< absolute
    TokenId recorded = -1, drawn = -1;  ///< -1: the sequence ends here
  };
  /// After the sequence finished: where it first differed from the recording.
  std::optional<Difference> difference(const std::string& reason) const;
  int verified_tokens() const { return seen_; }

 private:
  Decision next();
  bool at_end() const { return at_ >= recording_.actions.size(); }

  Recording recording_;
  std::string reason_;
  size_t at_ = 0, offset_ = 0;  // the next token is actions[at_].tokens[offset_]
  int seen_ = 0;
  int32_t position_ = 0;
  std::vector<uint32_t> mask_;
  std::optional<Difference> difference_;
};

}  // namespace ponder::engine
