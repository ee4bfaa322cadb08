// POSIX side of os/keys.h.
#if !defined(_WIN32)
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include "base/os/keys.h"

namespace ponder::os {

struct KeyInput::Saved {
  termios settings;
};

KeyInput::KeyInput() {
  termios now;
  // A job in the background must not touch the terminal: it would be stopped.
  if (::isatty(STDIN_FILENO) != 1 || ::tcgetpgrp(STDIN_FILENO) != ::getpgrp()) return;
  if (::tcgetattr(STDIN_FILENO, &now) != 0) return;
  saved_ = std::make_unique<Saved>(Saved{now});
  now.c_lflag &= ~tcflag_t(ICANON | ECHO);
  now.c_cc[VMIN] = 1;
  now.c_cc[VTIME] = 0;
  active_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
}

KeyInput::~KeyInput() {
  if (active_) ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_->settings);
}

std::string KeyInput::read(double seconds) {
  pollfd in = {STDIN_FILENO, POLLIN, 0};
  if (!active_ || ended_ || ::poll(&in, 1, int(seconds * 1000)) <= 0) return {};
  char buffer[64];
  const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
  if (n <= 0) {
    if (n == 0) ended_ = true;  // nobody types any more
    return {};
  }
  return std::string(buffer, size_t(n));
}

}  // namespace ponder::os
#endif
