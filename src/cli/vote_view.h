// A vote on the terminal: one line while it runs, one sentence when it is decided.
#pragma once

#include <string>

#include "runtime/types.h"

namespace ponder::cli {

/// "voting ▂▂█▅·×  2 of 6 answered · 156 leads with 2 · 1240 tokens": a sign for each chain (· waiting, ▂ thinking,
/// ▅ answering, █ ended, × not needed, ! failed).
std::string vote_line(const reason::VoteReport& report);
/// "5 of 6 chains agree on 156 (130: 1) · 2 of 8 not needed, about 420 tokens saved"
std::string vote_note(const reason::VoteReport& report);

/// The line, redrawn on stderr. Silent in a pipe.
class VoteLine {
 public:
  ~VoteLine() { clear(); }
  void show(const reason::VoteReport& report);
  void clear();

 private:
  bool visible_ = false;
};

}  // namespace ponder::cli
