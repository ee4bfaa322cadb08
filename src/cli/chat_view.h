// Shows one reply as it comes: the thought dim and between its two lines, then the answer, then the figures.
#pragma once

#include <mutex>
#include <string>

#include "cli/terminal.h"
#include "cli/vote_view.h"
#include "runtime/types.h"

namespace ponder::cli {

class ChatView {
 public:
  explicit ChatView(bool hide_thinking) : hide_thinking_(hide_thinking) {}

  runtime::ChatSink sink();  ///< callbacks into this object, which must outlive the call
  /// Closes open styles and lines.
  void finish();
  /// Says with the first thought which keys do something.
  void announce_keys() { keys_ = true; }
  /// Keeps what comes off the screen, until it is let go.
  void hold(bool held);

  const std::string& thinking() const { return thinking_; }
  const std::string& content() const { return content_; }

 private:
  void show(const runtime::ChatDelta& delta);
  void print(const runtime::ChatDelta& delta);
  void close_thought();

  const bool hide_thinking_;
  ProgressBar load_bar_{"loading"}, prefill_bar_{"reading the prompt"};
  VoteLine vote_line_;
  std::string thinking_, content_;
  std::mutex mutex_;  // pieces come from one thread, hold() from another
  bool held_ = false, keys_ = false;
  runtime::ChatDelta kept_;
  bool in_thought_ = false;
  bool line_open_ = false;
};

/// One line: "thought 88, answered 12 tokens · first token 0.12 s · 41.2 tokens/s · 34.1 GB/s (98 % of this machine's ...)".
/// `read_gb_per_second` 0: bandwidth not measured, the fraction is left out.
std::string speed_line(const runtime::ChatResult& result, double read_gb_per_second);
/// Ollama's table of `--verbose`, and what it lacks: TTFT, thinking and answer apart, memory, GB/s, context.
std::string verbose_table(const runtime::ChatResult& result, double read_gb_per_second);
/// Why a reply ended, for a person, when it did not end by itself; empty otherwise.
std::string ending_note(const runtime::ChatResult& result);

}  // namespace ponder::cli
