// The clock is in advance(); the rule that ends a vote in settled_now(). Read tally.cpp for the arithmetic behind it.
#include "reason/vote.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ponder::reason {

// Of the spread of lengths (tokens_saved): between the exponential's 1, which thinks of the longest chains as endless, and
// the bell's 2.
constexpr double kShape = 1.4;

const char* to_string(VoteOptions::Method method) {
  return method == VoteOptions::Method::shortest ? "short" : "majority";
}

const char* to_string(ChainReport::State state) {
  constexpr const char* kNames[] = {"waiting", "thinking", "answering", "finished", "cancelled", "failed"};
  return kNames[size_t(state)];
}

Vote::Vote(const VoteOptions& options) : options_(options) {
  options_.n = std::clamp(options_.n, 1, kMostChains);
  options_.min = std::clamp(options_.min, 1, options_.n);
  chains_.resize(size_t(options_.n));
  advance();
}

void Vote::token(int chain) {
  ++chains_[size_t(chain)].tokens;
  if (!decided_) advance();
}

void Vote::ended(int chain, std::optional<Answer> answer, bool failed) {
  Chain& c = chains_[size_t(chain)];
  if (std::exchange(c.ended, true)) return;
  c.failed = failed;
  if (!failed) c.answer = std::move(answer);
  if (!decided_) advance();
}

void Vote::advance() {
  while (!decided_) {
    while (int(running_.size()) < kSlots && next_ < options_.n) {
      chains_[size_t(next_)].start = now_;
      running_.push_back(next_++);
    }
    // The first end on the clock, chains of one tick in their own order.
    int first = -1;
    int64_t at = 0;
    for (const int i : running_) {
      const Chain& c = chains_[size_t(i)];
      if (!c.ended) continue;
      const int64_t end = c.start + c.tokens;
      if (first < 0 || end < at || (end == at && i < first)) first = i, at = end;
    }
    if (first < 0) return;
    for (const int i : running_) {  // may one that still runs end before it?
      const Chain& c = chains_[size_t(i)];
      if (c.ended) continue;
      const int64_t earliest = c.start + c.tokens;
      if (earliest < at || (earliest == at && i < first)) return;
    }
    now_ = at;
    std::erase(running_, first);
    ballots_.push_back({first, chains_[size_t(first)].answer});
    groups_ = tally(ballots_);
    if (int(ballots_.size()) == options_.n || settled_now()) decide();
  }
}

bool Vote::settled_now() const {
  const int answers = int(std::count_if(ballots_.begin(), ballots_.end(), [](const Ballot& b) { return !!b.answer; }));
  const int first = groups_.empty() ? 0 : groups_[0].count(), second = groups_.size() < 2 ? 0 : groups_[1].count();
  const int silent = options_.n - int(ballots_.size());
  if (options_.method == VoteOptions::Method::shortest) {
    const int left = std::min(options_.min - answers, silent);
    return left <= 0 || (options_.settle && first > second + left);
  }
  if (!options_.settle) return false;
  const double risk = overturn_risk(first, second, silent);
  return risk <= 0 || (answers >= options_.min && risk <= kSettledRisk);
}

void Vote::decide() {
  decided_ = true;
  if (!groups_.empty()) {
    winner_ = groups_[0].chains[0];
    return;
  }
  // Nothing to compare: the chain that an unvoted request would have been, if it is there.
  for (int i = 0; i < options_.n && winner_ < 0; ++i)
    if (chains_[size_t(i)].ended && !chains_[size_t(i)].failed) winner_ = i;
}

double Vote::agreement() const { return groups_.empty() ? 0 : double(groups_[0].count()) / double(ballots_.size()); }

int64_t Vote::tokens_saved() const {
  std::vector<double> ended;
  int waiting = 0;
  for (const Chain& c : chains_) {
    if (c.ended) {
      ended.push_back(c.tokens);
    } else if (c.tokens == 0) {
      ++waiting;
    }
  }
  if (ended.empty()) return 0;
  const double shortest = *std::min_element(ended.begin(), ended.end());
  if (ended.size() < 2) return int64_t(std::llround(waiting * shortest));
  double powers = 0;
  const auto past = [&](double tokens) { return std::max(tokens - shortest, 0.0); };
  for (const Chain& c : chains_) powers += std::pow(past(c.tokens), kShape);
  const double scale = std::pow(std::max(powers, 1.0) / double(ended.size() - 1), 1 / kShape);
  // Expected rest of a chain that is `x` past the shortest: the integral of S from x on, over S(x).
  const auto rest = [&](double x) {
    const double z = std::pow(x / scale, kShape), step = 0.02;
    double sum = 0;
    for (double t = step / 2; t < 8; t += step) sum += std::exp(z - std::pow(x / scale + t, kShape));
    return sum * step * scale;
  };
  double saved = waiting * (shortest + rest(0));
  for (const Chain& c : chains_)
    if (!c.ended && c.tokens > 0) saved += std::max(0.0, shortest - c.tokens) + rest(past(c.tokens));
  return int64_t(std::llround(saved));
}

VoteReport Vote::report() const {
  VoteReport r;
  r.n = options_.n;
  r.decided = decided_;
  r.settled = settled();
  r.winner = winner_;
  for (const Group& g : groups_) r.counts.push_back({g.answer.shown, g.chains});
  if (!groups_.empty()) r.answer = groups_[0].answer.shown;
  for (const Ballot& b : ballots_) r.without_answer += !b.answer;
  r.agreement = agreement();
  for (const Chain& c : chains_) {
    r.finished += c.ended;
    r.tokens += c.tokens;
  }
  if (decided_) {
    r.cancelled = r.n - r.finished;
    r.tokens_saved = tokens_saved();
  }
  return r;
}

}  // namespace ponder::reason
