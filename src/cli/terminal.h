// What a person sees: dim text, progress bars with rate and time left on a terminal, nothing of that in a pipe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/pull.h"

namespace ponder::cli {

bool stdout_is_terminal();
bool stderr_is_terminal();

/// All of standard input, as it comes.
std::string read_stdin();

/// "1.2 GB" (decimal, as Ollama prints sizes), "3 minutes ago", "42s".
std::string human_bytes(uint64_t bytes);
std::string human_ago(int64_t seconds_since_1970);
std::string human_until(int64_t seconds_since_1970);
std::string human_duration(double seconds);

/// Text that may be printed to a terminal: control characters of a stranger's file or model do nothing.
std::string printable(std::string_view text);

/// One line on stderr that is redrawn: "label  42% ▕████  ▏ 206 MB/491 MB  31 MB/s  9s". Silent in a pipe.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label) : label_(std::move(label)) {}
  ~ProgressBar() { clear(); }
  void update(uint64_t done, uint64_t total);  ///< units are bytes if `total` > 0; total 0: size unknown
  void fraction(double f);                     ///< without units
  void finish();                               ///< leaves the full line standing
  void clear();                                ///< takes the line away

 private:
  void draw(double fraction, const std::string& tail);
  std::string label_;
  double started_ = 0, drawn_ = 0;
  uint64_t first_ = 0;
  bool visible_ = false, done_ = false;
};

/// The bars of a pull: one a layer, statuses between. In a pipe: one line per status, no bars.
class PullBar {
 public:
  void update(const store::PullProgress& progress);

 private:
  std::string status_;
  std::unique_ptr<ProgressBar> bar_;
};

}  // namespace ponder::cli
