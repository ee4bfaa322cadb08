#include "reason/loop.h"

#include <algorithm>

namespace ponder::reason {
namespace {

constexpr int kRun = 8;          // tokens whose return makes a suspicion
constexpr int kTableBits = 15;   // 32,768 places: the longest context; a lost place delays a suspicion, no more
constexpr int kWordDiffers = 4;  // what a differing word costs
constexpr int kFindAgain = 24;   // tokens within which the text must fall into its round again

}  // namespace

LoopDetector::LoopDetector() : last_seen_(size_t(1) << kTableBits) {}

int LoopDetector::threshold(int period) { return std::max(period + (3 * period) / 4, 384 - period); }

uint64_t LoopDetector::key() const {
  uint64_t h = 0x9E3779B97F4A7C15ull;
  for (size_t i = tokens_.size() - kRun; i < tokens_.size(); ++i) {
    h ^= uint64_t(uint32_t(tokens_[i].id)) + 0x9E3779B97F4A7C15ull + (h << 6) + (h >> 2);
    h *= 0xBF58476D1CE4E5B9ull;
  }
  return h >> (64 - kTableBits);
}

bool LoopDetector::same_run(int a, int b) const {
  for (int i = 1; i <= kRun; ++i)
    if (tokens_[size_t(a - i)].id != tokens_[size_t(b - i)].id) return false;
  return true;
}

std::optional<LoopDetector::Found> LoopDetector::push(int32_t token, bool is_number) {
  tokens_.push_back({token, is_number});
  const int n = int(tokens_.size());
  if (period_ > 0) {
    const Token& before = tokens_[size_t(n - 1 - period_)];
    if (before.id == token) {
      score_ += lost_ == 0;
    } else if (lost_ == 0) {  // while lost, what stands against what means nothing
      if (is_number || before.number) {
        forget();
      } else {
        score_ -= kWordDiffers;
        lost_ = n;
      }
    }
    if (lost_ > 0 && n - lost_ > kFindAgain) forget();
    if (score_ <= 0) forget();
  }
  if (n >= kRun) {
    int32_t& place = last_seen_[key()];
    const int seen = place;
    place = n;
    const bool again = seen >= kRun && seen < n && same_run(seen, n);
    if (again && period_ == 0) {
      period_ = n - seen;
      score_ = kRun;
      begin_ = seen - kRun;
    } else if (again && lost_ > 0) {  // the same round, a word longer or shorter
      period_ = n - seen;
      lost_ = 0;
    }
  }
  if (called_ || period_ == 0 || score_ < threshold(period_)) return std::nullopt;
  called_ = true;
  return Found{period_, begin_};
}

void LoopDetector::reset() {
  tokens_.clear();
  std::fill(last_seen_.begin(), last_seen_.end(), 0);
  begin_ = 0;
  forget();
  called_ = false;
}

void LoopDetector::forget() { period_ = score_ = lost_ = 0; }

void LoopDetector::trim(int n) {
  n = std::clamp(n, 0, int(tokens_.size()));
  const std::vector<Token> kept(tokens_.begin(), tokens_.begin() + n);
  reset();
  for (const Token& t : kept) push(t.id, t.number);
  forget();
  called_ = false;
}

}  // namespace ponder::reason
