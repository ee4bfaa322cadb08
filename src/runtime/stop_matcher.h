// Finds stop strings in a stream of text, however the stream is cut. Text that may be the beginning of a stop string is
// held back until that is decided, so a stop string is never shown, not even in part.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ponder::runtime {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);

  /// Text that is safe to show now. After a hit it is what came before the stop string, and everything later is dropped.
  std::string push(std::string_view text);
  /// What is still held back (the stream ended without a hit).
  std::string finish();

  bool hit() const { return hit_; }

 private:
  std::vector<std::string> stops_;  // none empty
  std::string held_;
  bool hit_ = false;
};

}  // namespace ponder::runtime
