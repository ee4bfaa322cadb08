#include "cli/keys.h"

#include <fmt/format.h>

#include "base/os/system.h"
#include "cli/terminal.h"

namespace ponder::cli {
namespace {

constexpr double kPoll = 0.05;      // seconds
constexpr double kSequence = 0.02;  // Esc is a key of its own when nothing follows it so soon
constexpr char kEscape = 27;

// Takes off the last whole character.
void rub_out(std::string& text) {
  while (!text.empty() && (uint8_t(text.back()) & 0xC0) == 0x80) text.pop_back();
  if (!text.empty()) text.pop_back();
}

}  // namespace

Keys::Keys(runtime::Client& client, std::string id, ChatView& view) : client_(client), id_(std::move(id)), view_(view) {
  if (!input_.active() || !stdout_is_terminal()) return;
  view_.announce_keys();
  thread_ = std::thread([this] { listen(); });
}

Keys::~Keys() {
  over_ = true;
  if (thread_.joinable()) thread_.join();
}

void Keys::listen() {
  while (!over_) {
    const std::string typed = input_.read(kPoll);
    if (typed.empty()) continue;
    if (typed[0] == kEscape) {  // alone, or the beginning of an arrow key
      if (typed.size() == 1 && input_.read(kSequence).empty()) send("stop");
      continue;
    }
    for (const char key : typed) press(key);
  }
}

void Keys::press(char key) {
  switch (key) {
    case 'a':
    case 'A':
      return send("answer");
    case 'm':
    case 'M':
      return send("more");
    case 'n':
    case 'N':
      return write_note();
    default:
      return;
  }
}

// The reply waits on the screen (not in the model) while the note is typed.
void Keys::write_note() {
  view_.hold(true);
  std::string note;
  const auto draw = [&] {
    fmt::print(stderr, "\r\x1b[2Knote> {}", printable(note));
    std::fflush(stderr);
  };
  fmt::print(stderr, "\n");
  draw();
  bool done = false, given_up = false;
  while (!over_ && !done) {
    for (const char c : input_.read(kPoll)) {
      if (c == '\n' || c == '\r') {
        done = true;
        break;
      }
      if (c == kEscape) {
        done = given_up = true;
        break;
      }
      if (c == 127 || c == 8) {
        rub_out(note);
      } else if (uint8_t(c) >= 0x20) {
        note += c;
      }
    }
    draw();
  }
  fmt::print(stderr, "\r\x1b[2K");
  std::fflush(stderr);
  if (!given_up && !note.empty()) send("note", note);
  view_.hold(false);
}

void Keys::send(const char* action, const std::string& text) {
  // Too late is no error worth a line in the middle of the reply.
  (void)client_.control(id_, {action, text, 0});
}

std::string fresh_request_id() { return fmt::format("cli-{:016x}", os::random_u64()); }

}  // namespace ponder::cli
