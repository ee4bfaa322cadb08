// Steering from the keyboard while a reply is written: a answers now, m thinks more, n adds a note, Esc stops.
#pragma once

#include <atomic>
#include <string>
#include <thread>

#include "base/os/keys.h"
#include "cli/chat_view.h"
#include "runtime/client.h"

namespace ponder::cli {

/// Listens on a thread of its own from its construction to its end. Does nothing when there is no terminal.
class Keys {
 public:
  /// `id`: of the request that is about to run.
  Keys(runtime::Client& client, std::string id, ChatView& view);
  ~Keys();

 private:
  void listen();
  void press(char key);
  void write_note();
  void send(const char* action, const std::string& text = {});

  runtime::Client& client_;
  const std::string id_;
  ChatView& view_;
  os::KeyInput input_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

/// An id for a request of this program.
std::string fresh_request_id();

}  // namespace ponder::cli
