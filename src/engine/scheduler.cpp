// Decode rows first, then prompts by even shares ("water filling": who needs less than its share leaves the rest to the
// others). Results never depend on any of this (docs/numerics.md), only waiting times do.
// Next to read: loop.cpp.
#include "engine/scheduler.h"

#include <algorithm>
#include <numeric>

namespace ponder::engine {
namespace {
// A few tokens forced on a generating sequence go with the decode rows; more than that is a prompt.
constexpr int kShort = 32;
// A chunk is never smaller, or the weights would be read for nothing: beside decode rows, and without.
constexpr int kLeastMixed = 16, kLeastAlone = 64;
// Without anybody generating a step may take this many times the target.
constexpr double kAloneFactor = 4;
// Drafts must promise so much more than none: times and odds are not known better than that.
constexpr double kWorthWhile = 1.03;
// A measured step time is forgotten after so many steps without a new one, and then tried again; all but that of one row,
// which the others are compared with.
constexpr uint64_t kFresh = 500;
// How fast all step times follow one that was measured, and how fast that one moves against the others: slowly, because
// what changes is mostly the machine.
constexpr double kFollowAll = 0.3, kFollowOwn = 0.05;
// One measurement counts as at most so much slower or faster than what was known.
constexpr double kStrange = 1.5;
// A step of drafts that took longer than so many times what it may take was held up by something else.
constexpr double kHeldUp = 2;
}  // namespace

int Scheduler::prefill_budget(int decode_rows) const {
  const int room = limits_.max_rows - decode_rows;
  const int least = decode_rows > 0 ? kLeastMixed : kLeastAlone;
  if (row_seconds_ <= 0) return std::min(room, least);
  const double seconds =
      decode_rows > 0 ? limits_.target_seconds - decode_seconds_ : limits_.target_seconds * kAloneFactor;
  const double rows = std::clamp(seconds / row_seconds_, double(least), double(limits_.max_rows));
  return std::min(room, int(rows));
}

std::vector<Grant> Scheduler::schedule(std::span<const Work> work) {
  const size_t n = work.size();
  if (n == 0) return {};
  std::vector<int> rows(n, 0);
  std::vector<bool> draw(n, false);
  int left = limits_.max_rows, outputs = limits_.max_outputs, decode_rows = 0;

  // Prompts come after, but must not starve either: when decode rows alone fill the batch, every other one keeps a part
  // back for them.
  const int is_short = std::max(1, std::min(kShort, limits_.max_rows / 2));
  std::vector<size_t> decoders, prompts;
  for (size_t i = 0; i < n; ++i) (work[i].generating && work[i].pending <= is_short ? decoders : prompts).push_back(i);
  auto waited_longer = [&](size_t a, size_t b) { return work[a].last_turn < work[b].last_turn; };
  std::stable_sort(decoders.begin(), decoders.end(), waited_longer);
  std::stable_sort(prompts.begin(), prompts.end(), waited_longer);
  int rows_back = 0, outputs_back = 0;
  if (!prompts.empty() && turn_++ % 2 == 0) {
    rows_back = std::max(1, limits_.max_rows / 4);
    outputs_back = std::max(1, limits_.max_outputs / 4);
  }

  for (size_t i : decoders) {
    const Work& w = work[i];
    if (w.pending > left - rows_back) continue;  // it goes first next time
    const bool draws = w.may_draw && outputs > outputs_back;
    rows[i] = draws || !w.may_draw ? w.pending : w.pending - 1;
    draw[i] = draws;
    outputs -= draws;
    left -= rows[i];
    decode_rows += rows[i];
  }

  // Smallest need first, each taking at most an even share of what is left.
  int budget = std::min(left, prefill_budget(decode_rows));
  if (int(prompts.size()) > budget) prompts.resize(size_t(budget));
  std::stable_sort(prompts.begin(), prompts.end(),
                   [&](size_t a, size_t b) { return work[a].pending < work[b].pending; });
  for (size_t k = 0; k < prompts.size() && budget > 0; ++k) {
    const Work& w = work[prompts[k]];
    const int others = int(prompts.size() - k);
    int share = std::min(w.pending, (budget + others - 1) / others);
    const bool draws = share == w.pending && w.may_draw && outputs > 0;
    if (share == w.pending && w.may_draw && !draws) --share;  // the last row waits until it may draw
    rows[prompts[k]] = share;
    draw[prompts[k]] = draws;
    outputs -= draws;
    budget -= share;
  }

  std::vector<Grant> grants;
  for (size_t i = 0; i < n; ++i)
    if (rows[i] > 0) grants.push_back({i, rows[i], bool(draw[i])});
  add_drafts(work, grants, left - std::accumulate(rows.begin(), rows.end(), 0) + decode_rows, outputs);
  return grants;
}

// The next draft row goes where it is most likely right; the number of rows is the one that gives most tokens a second,
// by what steps of that many rows were measured to take. No sequence's drafts may cost more than it can spare. Certain ones
// are a prompt: as many as the step has time for.
void Scheduler::add_drafts(std::span<const Work> work, std::vector<Grant>& grants, int rows_left,
                           int outputs_left) const {
  float likeliest = 0;
  int rows = 0, drawing = 0;
  for (const Grant& g : grants) {
    const auto drafts = work[g.index].drafts;
    if (g.draw && !drafts.empty()) likeliest = std::max(likeliest, drafts[0]);
    rows += g.rows, drawing += g.draw;
  }
  const bool known = likeliest >= 1 ? times_.seconds(rows) > 0 : decode_seconds_ > 0;
  if (likeliest <= 0 || !known) return;
  const double longest = drawing == int(grants.size()) && drawing == 1
                             ? limits_.target_seconds * kAloneFactor
                             : std::max(limits_.target_seconds, 2 * decode_seconds_);

  std::vector<int> tried(grants.size(), 0);
  std::vector<double> odds(grants.size(), 0);  // that a further row of this sequence is of use
  const auto next_odds = [&](size_t i) {
    const auto drafts = work[grants[i].index].drafts;
    return size_t(tried[i]) < drafts.size() ? double(drafts[size_t(tried[i])]) : 0;
  };
  for (size_t i = 0; i < grants.size(); ++i) odds[i] = grants[i].draw ? next_odds(i) : 0;
  const double plain = times_.seconds(rows);
  double tokens = drawing, best = kWorthWhile * tokens / plain;
  // Of what n draft rows may cost, each sequence pays for its own. What a further row costs is known once it was tried.
  const auto affordable = [&](int n) {
    const double row = n == 1 && !times_.known(rows + 1) ? 0 : (times_.at_most(rows + n) - plain) / n;
    for (size_t i = 0; i < grants.size(); ++i)
      if (tried[i] > 0 && work[grants[i].index].drafts[size_t(tried[i]) - 1] < 1 &&
          tried[i] * row > work[grants[i].index].spare)
        return false;
    return true;
  };
  for (int n = 1; n <= std::min(rows_left, outputs_left);) {
    size_t at = grants.size();
    for (size_t i = 0; i < grants.size(); ++i)
      if (odds[i] > 0 && (at == grants.size() || odds[i] > odds[at])) at = i;
    if (at == grants.size()) break;
    const bool certain = odds[at] >= 1;
    ++tried[at];
    if (!affordable(n)) {
      --tried[at];
      odds[at] = 0;
      continue;
    }
    tokens += odds[at];
    odds[at] *= next_odds(at);
    const double seconds = times_.seconds(rows + n++);
    if (seconds > longest) break;
    if (!certain && tokens / seconds <= best) continue;
    best = tokens / seconds;
    for (size_t i = 0; i < grants.size(); ++i) grants[i].drafts = tried[i];
  }
}

void StepTimes::measured(int rows, double seconds) {
  ++step_;
  const int i = index_of(rows);
  // Counted as the size below, which makes it look a little slower than it is: sizes lie close together.
  Entry& e = entries_[i];
  if (!fresh(i)) {
    e = {seconds, step_, 1};
    return;
  }
  const double change = std::clamp(seconds / e.seconds, 1 / kStrange, kStrange) - 1;
  if (size_of(i) <= kExact)  // not by prompts: what they take depends on where they stand
    for (int k = 0; k < kExact; ++k) entries_[k].seconds *= 1 + kFollowAll * change;
  // The first steps of a size are slower than later ones: memory is taken, pages are touched.
  const double follow = change < 0 ? std::max(kFollowOwn, 1.0 / (e.times + 1)) : kFollowOwn;
  e.seconds *= 1 + follow * change;
  e.step = step_;
  e.times = std::min(e.times + 1, 1000);
}

int StepTimes::index_of(int rows) {
  int i = 0;
  while (i + 1 < kSizes && size_of(i + 1) <= rows) ++i;
  return i;
}

bool StepTimes::fresh(int index) const {
  return entries_[index].seconds > 0 && (index == 0 || step_ - entries_[index].step <= kFresh);
}

bool StepTimes::known(int rows) const { return fresh(index_of(rows)); }

double StepTimes::at_most(int rows) const {
  const int at = index_of(rows);
  double most = 0;  // as many steps of the next smaller size as are needed
  for (int i = at; i >= 0 && most == 0; --i)
    if (fresh(i)) most = entries_[i].seconds * std::max(1.0, double(rows) / size_of(i));
  for (int i = at + 1; i < kSizes; ++i)
    if (fresh(i)) return most > 0 ? std::min(most, entries_[i].seconds) : entries_[i].seconds;
  return most;
}

double StepTimes::seconds(int rows) const {
  int below = -1, above = -1;
  for (int i = 0; i < kSizes; ++i) {
    if (!fresh(i)) continue;
    if (size_of(i) <= rows) below = i;
    if (size_of(i) > rows && above < 0) above = i;
  }
  if (below < 0) return above < 0 ? 0 : entries_[above].seconds;
  const double base = entries_[below].seconds;
  const int more = rows - size_of(below);
  if (more == 0) return base;
  if (above >= 0)
    return base + std::max(0.0, entries_[above].seconds - base) * more / (size_of(above) - size_of(below));
  return base + more * base / (8 * size_of(below));  // a guess on the low side: trying it will tell
}

StepCost Scheduler::measured(int decode_rows, int prefill_rows, double seconds, int draft_rows) {
  StepCost cost{seconds, 0, seconds};
  const int plain_rows = decode_rows + prefill_rows;
  if (const double plain = times_.seconds(plain_rows); draft_rows > 0 && plain > 0) {
    const double most = kHeldUp * times_.at_most(plain_rows + draft_rows);
    cost.plain = std::min(seconds, plain);
    cost.drafts = std::max(0.0, std::min(seconds, most) - plain);
  }
  if (const double alone = decode_rows > 0 ? times_.seconds(decode_rows) : 0; alone > 0)
    cost.token = std::min(cost.plain, alone);
  auto average = [](double& mean, double value) { mean = mean <= 0 ? value : 0.7 * mean + 0.3 * value; };
  times_.measured(plain_rows + draft_rows, seconds);
  if (draft_rows > 0) return cost;
  if (prefill_rows == 0) {
    average(decode_seconds_, seconds);
  } else {
    const double rest = decode_rows > 0 ? std::max(seconds - decode_seconds_, 0.1 * seconds) : seconds;
    average(row_seconds_, rest / prefill_rows);
  }
  return cost;
}

}  // namespace ponder::engine
