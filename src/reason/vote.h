// A vote as a machine of states: chains produce tokens and end, answers are counted, and at some point the vote is decided
// and the chains that still run are not needed. It knows no engine; runtime/voting.cpp feeds it and carries out what it
// decides.
//
// The outcome does not depend on how the engine scheduled the chains. The vote keeps a clock of its own: it counts as if
// kSlots chains ran in step, one token each a tick, and the next one began when one ended. A chain's end is looked at only
// when no other chain can still end before it on that clock. With chains decoded as one batch this costs no time, because
// there they do run in step; under load it waits for the ones that fell behind. So the same request with the same seed has
// the same winner, on a busy machine as on an idle one.
//
// Sources: self-consistency, arXiv 2203.11171; short-m@k (the chains that end first are the more accurate ones), arXiv
// 2505.17813; stopping early, arXiv 2305.11860 and tally.h.
#pragma once

#include <string>
#include <vector>

#include "reason/answer.h"
#include "reason/tally.h"

namespace ponder::reason {

inline constexpr int kMostChains = 64;
/// Chains that run in step on the vote's clock.
inline constexpr int kSlots = 8;

struct VoteOptions {
  enum class Method {
    majority,  ///< the answer of most chains
    shortest,  ///< "short": the answer of most of the first `min` chains that end with one (short-m@k)
  };
  int n = 1;    ///< chains, 1..kMostChains
  int min = 3;  ///< answers to wait for before likely is enough (certain always is); of `shortest`: those that count
  bool settle = true;  ///< stop when the rest will hardly change the winner; false: hear every chain
  Method method = Method::majority;
  AnswerKind kind = AnswerKind::automatic;
  bool chains = false;  ///< the texts of all chains are wanted in the reply
};
const char* to_string(VoteOptions::Method method);

/// One chain, as far as it came.
struct ChainReport {
  enum class State { waiting, thinking, answering, finished, cancelled, failed } state = State::waiting;
  int index = 0;  ///< and its random stream
  int tokens = 0, thinking_tokens = 0, answer_tokens = 0;
  std::string done_reason;
  std::optional<Answer> answer;
  bool counted = false;           ///< its end came before the decision
  std::string thinking, content;  ///< when asked for
};
const char* to_string(ChainReport::State state);

/// Where a vote stands, or how it ended.
struct VoteReport {
  struct Count {
    std::string answer;
    std::vector<int> chains;
  };
  int n = 0;
  bool decided = false, settled = false;  ///< settled: decided before every chain had ended
  int winner = -1;                        ///< the chain whose text is the reply; -1: none yet
  std::string answer;                     ///< of the winner; empty: no chain had one
  std::vector<Count> counts;              ///< most votes first
  int without_answer = 0;                 ///< chains that ended with nothing to compare
  int finished = 0, cancelled = 0;
  double agreement = 0;      ///< votes for the winner's answer of all that were counted
  int64_t tokens = 0;        ///< drawn by all chains
  int64_t tokens_saved = 0;  ///< that the chains not heard to the end would have drawn: an estimate, see Vote
  std::vector<ChainReport> chains;
};

/// Calls come in any order the engine produces; each chain's own are in order.
class Vote {
 public:
  explicit Vote(const VoteOptions& options);

  void token(int chain);
  /// The chain came to its end. `failed`: by an error, so that its text cannot be the reply.
  void ended(int chain, std::optional<Answer> answer, bool failed = false);

  bool decided() const { return decided_; }
  bool settled() const { return decided_ && int(ballots_.size()) < options_.n; }
  int winner() const { return winner_; }  ///< -1: not decided, or every chain failed
  const std::vector<Group>& groups() const { return groups_; }
  const std::vector<Ballot>& ballots() const { return ballots_; }  ///< those that counted, in the order of the clock
  int tokens(int chain) const { return chains_[size_t(chain)].tokens; }
  bool has_ended(int chain) const { return chains_[size_t(chain)].ended; }
  double agreement() const;

  /// What the chains that were not heard to the end would still have cost: an estimate. The part of a chain's length that
  /// is past the shortest is taken as Weibull distributed, with the scale that the ends and the chains cut off say (type II
  /// censoring). With fewer than two ends the rest of running chains is unknown and counted as nothing.
  int64_t tokens_saved() const;

  /// Everything but the texts and states of single chains, which the caller knows better.
  VoteReport report() const;

 private:
  struct Chain {
    int tokens = 0;
    bool ended = false, failed = false;
    std::optional<Answer> answer;
    int64_t start = 0;  // on the vote's clock
  };
  void advance();
  bool settled_now() const;
  void decide();

  VoteOptions options_;
  std::vector<Chain> chains_;
  std::vector<int> running_;  // on the vote's clock
  int next_ = 0;              // first chain that has not begun on it
  int64_t now_ = 0;
  std::vector<Ballot> ballots_;
  std::vector<Group> groups_;
  bool decided_ = false;
  int winner_ = -1;
};

}  // namespace ponder::reason
