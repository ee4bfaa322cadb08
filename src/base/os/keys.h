// Keys as a person types them, for steering a reply while it is written.
#pragma once

#include <memory>
#include <string>

namespace ponder::os {

/// While it lives, standard input gives every key at once and without echo; Ctrl-C still interrupts. The terminal is put
/// back at the end.
class KeyInput {
 public:
  KeyInput();
  ~KeyInput();
  KeyInput(const KeyInput&) = delete;
  KeyInput& operator=(const KeyInput&) = delete;

  bool active() const { return active_; }  ///< standard input is a terminal of ours
  /// What was typed, waiting at most so long for the first byte; empty if nothing was.
  std::string read(double seconds);

 private:
  struct Saved;
  std::unique_ptr<Saved> saved_;
  bool active_ = false, ended_ = false;
};

}  // namespace ponder::os
