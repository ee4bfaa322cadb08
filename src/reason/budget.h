// When a thought has to end: a state machine over counts and times that knows nothing of tokens and text.
//
//   free -> soft -> waiting -> over
//
// `free` up to 85 % of the budget; in `soft` the closing tag gets a bias that rises to the budget; in `waiting` the thought
// ends with its sentence; at the window's end (10 % more) it is `over` whatever stands there. A hard budget knows only
// `free` and `over`. A budget in seconds is turned into tokens at the measured rate, again every 64 tokens, and its own
// clock is looked at as well, for a machine that slows down. Whatever the budget, room for the closing and the answer stays.
// Sources: Muennighoff et al. 2025 (arXiv 2501.19393, budget forcing), Qwen3 report (arXiv 2505.09388, section 4.3).
#pragma once

#include <cstdint>

namespace ponder::reason {

struct BudgetOptions {
  int tokens = -1;      ///< of the model's own in the thought; -1: no limit
  double seconds = -1;  ///< from the first of them; negative: no limit
  bool hard = false;
  int room = 1 << 30;  ///< tokens the whole reply may have: the smaller of num_predict and what the context has left
  int answer = 0;      ///< of these, kept for the answer
  int closing = 0;     ///< and for the closing sentence with its tag
};

class Budget {
 public:
  enum class State : uint8_t { free, soft, waiting, over };
  enum class Cause : uint8_t { tokens, seconds };

  explicit Budget(const BudgetOptions& options);

  /// After each token and between steps. `own`: tokens of the model in the thought; `total`: all tokens of the reply so
  /// far; `now` in seconds.
  State look(int own, int total, double now);
  State state() const { return state_; }
  /// What made it end, once it is not `free`.
  Cause cause() const { return cause_; }
  /// In `soft` and `waiting`: how far, 0 to 1.
  double pressure() const { return pressure_; }
  /// The most tokens that the model's own thought can reach: the announced window. -1: only `room` limits it.
  int window() const;
  /// More, as a person asks for; 0: half of what there is now.
  void extend(int tokens);

 private:
  State by(double used, double limit, double window, Cause cause);

  BudgetOptions options_;
  State state_ = State::free;
  Cause cause_ = Cause::tokens;
  double pressure_ = 0;
  double started_ = -1;
  int measured_at_ = 0;   // own tokens at the last estimate
  double estimate_ = -1;  // tokens that fit into `seconds`; -1: not known yet
};

}  // namespace ponder::reason
