// The door through which a person reaches a thought that runs: any thread posts a command, the controller on the engine's
// thread takes it at its next step.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"

namespace ponder::reason {

struct Command {
  enum class Action : uint8_t {
    answer,  ///< end the thought now and answer
    more,    ///< think on: `tokens` more, and the model's next own end of the thought does not count
    note,    ///< write `text` into the thought
    stop     ///< end the reply
  };
  Action action = Action::answer;
  std::string text;
  int tokens = 0;  ///< 0: half of the budget again
};

enum class Phase : uint8_t { waiting, thinking, answering, done };
const char* to_string(Phase phase);

class Steering {
 public:
  /// An error says why the command can do nothing any more: the thought is over, or the reply.
  Result<void> post(Command command);
  Phase phase() const;

  // The controller's side.
  std::vector<Command> take();
  void enter(Phase phase);

 private:
  mutable std::mutex mutex_;
  std::vector<Command> commands_;
  Phase phase_ = Phase::waiting;
};

}  // namespace ponder::reason
