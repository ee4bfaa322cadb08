// Drafts from the text itself: what followed the last few tokens before, in this text or in what the same client's
// other texts said, will follow again. Every token that is read also tells how far such guesses can be trusted just now,
// whether anything was drafted or not: so a drafter falls silent where nothing repeats itself, without having paid for
// it, and speaks again where something does. docs/drafts.md has what it brings.
#pragma once

#include <array>
#include <memory>

#include "engine/engine.h"
#include "engine/phrases.h"

namespace ponder::engine {

class TextDrafter final : public Drafter {
 public:
  static constexpr int kMost = 15;

  /// `phrases`: shared by the drafters of one client on one engine, whose thread alone uses it (making a drafter does not).
  /// `most`: tokens a step.
  explicit TextDrafter(std::shared_ptr<Phrases> phrases, int most = kMost);

  int propose(std::span<const TokenId> tokens, std::span<Draft> draft) override;
  std::shared_ptr<Drafter> fork() const override { return std::make_shared<TextDrafter>(phrases_, most_); }

 private:
  static constexpr size_t kOften = Phrases::kMostOften + 1;
  struct Odds {
    float right = 0, of = 0;
  };
  Odds& odds_of(size_t length, const Phrases::Seen& seen) { return odds_[seen.own][length][seen.often]; }
  void read(std::span<const TokenId> tokens);

  std::shared_ptr<Phrases> phrases_;  // shared, see above
  int most_;
  uint16_t reader_ = 0;  // 0: has not read yet
  size_t read_ = 0;      // tokens that were
  std::array<std::array<std::array<Odds, kOften>, Phrases::kLengths.size()>, 2> odds_;
};

}  // namespace ponder::engine
