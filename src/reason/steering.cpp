#include "reason/steering.h"

#include <utility>

namespace ponder::reason {
namespace {

constexpr size_t kMaxWaiting = 16;  // commands that were not taken yet
constexpr size_t kMaxNote = 4000;   // bytes

}  // namespace

const char* to_string(Phase phase) {
  constexpr const char* kNames[] = {"waiting", "thinking", "answering", "done"};
  return kNames[size_t(phase)];
}

Result<void> Steering::post(Command command) {
  using Action = Command::Action;
  if (command.action == Action::note && command.text.empty())
    return Error{ErrorCode::invalid_argument, "a note needs a text"};
  if (command.text.size() > kMaxNote)
    return Error{ErrorCode::invalid_argument, "a note has at most " + std::to_string(kMaxNote) + " bytes"};
  if (command.tokens < 0) return Error{ErrorCode::invalid_argument, "\"tokens\" must not be negative"};
  std::lock_guard lock(mutex_);
  if (phase_ == Phase::done) return Error{ErrorCode::not_found, "the reply has ended"};
  if (phase_ == Phase::answering && command.action != Action::stop)
    return Error{ErrorCode::already_exists, "the thought has ended; the answer is being written"};
  if (commands_.size() >= kMaxWaiting)
    return Error{ErrorCode::already_exists, "too many commands are waiting; try again in a moment"};
  commands_.push_back(std::move(command));
  return {};
}

Phase Steering::phase() const {
  std::lock_guard lock(mutex_);
  return phase_;
}

std::vector<Command> Steering::take() {
  std::lock_guard lock(mutex_);
  return std::exchange(commands_, {});
}

void Steering::enter(Phase phase) {
  std::lock_guard lock(mutex_);
  phase_ = phase;
}

}  // namespace ponder::reason
