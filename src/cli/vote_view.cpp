#include "cli/vote_view.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "base/os/system.h"
#include "base/utf8.h"
#include "cli/terminal.h"

namespace ponder::cli {
namespace {

using State = reason::ChainReport::State;

constexpr size_t kMostAnswer = 40;  // bytes of an answer in a line

const char* sign_of(State state) {
  switch (state) {
    case State::waiting:
      return "·";
    case State::thinking:
      return "▂";
    case State::answering:
      return "▅";
    case State::finished:
      return "█";
    case State::cancelled:
      return "×";
    case State::failed:
      return "!";
  }
  return " ";
}

// An answer that fits a line and cannot command the terminal.
std::string one_line(const std::string& answer) {
  std::string text = printable(answer);
  for (char& c : text)
    if (c == '\n' || c == '\t') c = ' ';
  if (text.size() <= kMostAnswer) return text;
  return text.substr(0, utf8::complete_prefix(std::string_view(text).substr(0, kMostAnswer))) + "...";
}

}  // namespace

std::string vote_line(const reason::VoteReport& r) {
  std::string line = "voting ";
  for (const auto& chain : r.chains) line += sign_of(chain.state);
  line += fmt::format("  {} of {} answered", r.finished, r.n);
  if (!r.counts.empty())
    line += fmt::format(" · {} {} with {}", one_line(r.counts[0].answer), r.decided ? "wins" : "leads",
                        r.counts[0].chains.size());
  return line + fmt::format(" · {} tokens", r.tokens);
}

std::string vote_note(const reason::VoteReport& r) {
  int votes = r.without_answer;
  for (const auto& c : r.counts) votes += int(c.chains.size());
  std::string note;
  if (r.counts.empty()) {
    note = fmt::format("none of {} chains ended with an answer that can be compared", votes);
  } else {
    note = fmt::format("{} of {} chains agree on {}", r.counts[0].chains.size(), votes, one_line(r.counts[0].answer));
    std::string others;
    for (size_t i = 1; i < r.counts.size(); ++i)
      others += fmt::format("{}{}: {}", i == 1 ? "" : ", ", one_line(r.counts[i].answer), r.counts[i].chains.size());
    if (r.without_answer > 0) others += fmt::format("{}no answer: {}", others.empty() ? "" : ", ", r.without_answer);
    if (!others.empty()) note += " (" + others + ")";
  }
  if (r.settled && r.n > votes)
    note += fmt::format(" · {} of {} not needed, about {} tokens saved", r.n - votes, r.n, r.tokens_saved);
  return note;
}

void VoteLine::show(const reason::VoteReport& report) {
  if (!stderr_is_terminal()) return;
  std::string line = vote_line(report);
  const size_t columns = size_t(std::max(20, os::terminal_size().columns));
  // Characters, not bytes: the signs are three bytes each.
  size_t characters = 0, bytes = 0;
  while (bytes < line.size() && characters + 1 < columns) {
    bytes += utf8::decode(std::string_view(line).substr(bytes)).length;
    ++characters;
  }
  line.resize(std::min(bytes, line.size()));
  fmt::print(stderr, "\r\x1b[2K{}", line);
  std::fflush(stderr);
  visible_ = true;
}

void VoteLine::clear() {
  if (visible_) {
    fmt::print(stderr, "\r\x1b[2K");
    std::fflush(stderr);
  }
  visible_ = false;
}

}  // namespace ponder::cli
