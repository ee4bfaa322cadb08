// Decode rows first, then prompts by even shares ("water filling": who needs less than its share leaves the rest to the
// others). Results never depend on any of this (docs/numerics.md), only waiting times do.
// Next to read: loop.cpp.
#include "engine/scheduler.h"

#include <algorithm>

namespace ponder::engine {
namespace {
// A few tokens forced on a generating sequence go with the decode rows; more than that is a prompt.
constexpr int kShort = 32;
// A chunk is never smaller, or the weights would be read for nothing: beside decode rows, and without.
constexpr int kLeastMixed = 16, kLeastAlone = 64;
// Without anybody generating a step may take this many times the target.
constexpr double kAloneFactor = 4;
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
  return grants;
}

void Scheduler::measured(int decode_rows, int prefill_rows, double seconds) {
  auto average = [](double& mean, double value) { mean = mean <= 0 ? value : 0.7 * mean + 0.3 * value; };
  if (prefill_rows == 0) {
    average(decode_seconds_, seconds);
  } else {
    const double rest = decode_rows > 0 ? std::max(seconds - decode_seconds_, 0.1 * seconds) : seconds;
    average(row_seconds_, rest / prefill_rows);
  }
}

}  // namespace ponder::engine
