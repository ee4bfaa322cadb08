// Finds out that a text goes round in circles, at a constant cost a token.
//
// A table remembers where each run of eight tokens was last seen. When a run comes again p tokens later, the text is
// compared with itself p tokens back from then on: agreement adds to a score, a word that differs takes from it (the round
// may go on a few tokens later or earlier behind it), and a digit that differs ends it, because a text whose numbers change goes somewhere (tables, logs, sums, numbered steps).
// A loop is called when the score says that nearly three copies stand there, and not before some hundreds of tokens.
// The phenomenon: Pipis et al. 2025 (arXiv 2512.12895, "Wait, Wait, Wait... Why Do Reasoning Models Loop?").
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace ponder::reason {

class LoopDetector {
 public:
  struct Found {
    int period = 0;  ///< tokens of one round
    int begin = 0;   ///< index of the first token of the first round, counted as push() does
  };

  LoopDetector();
  /// `is_number`: the token's text has a digit. Answers when a loop is certain; then again only after reset() or trim().
  std::optional<Found> push(int32_t token, bool is_number);
  /// Forgets everything.
  void reset();
  /// Keeps the first n tokens, as after a rewind, and looks at what follows as if it were new.
  void trim(int n);
  int size() const { return int(tokens_.size()); }

  /// For a period, the score at which a loop is called. Together with the first round and a few words that differ it
  /// stays under max(3 periods, 512 tokens).
  static int threshold(int period);

 private:
  uint64_t key() const;
  bool same_run(int a, int b) const;
  void forget();

  struct Token {
    int32_t id;
    bool number;
  };
  std::vector<Token> tokens_;
  std::vector<int32_t> last_seen_;  // by key: index after a run of kRun tokens, 0 for none
  int period_ = 0, score_ = 0, begin_ = 0;
  int lost_ = 0;  // where a word differed, until the round goes on behind it
  bool called_ = false;
};

}  // namespace ponder::reason
