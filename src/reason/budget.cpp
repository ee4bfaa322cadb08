#include "reason/budget.h"

#include <algorithm>
#include <cmath>

namespace ponder::reason {
namespace {

constexpr double kSoftFrom = 0.85;  // of the budget
constexpr double kWindow = 1.10;    // of the budget; of a number of tokens rounded up
constexpr int kFirstMeasure = 16;   // tokens before the rate is known well enough
constexpr int kMeasureEvery = 64;

}  // namespace

Budget::Budget(const BudgetOptions& options) : options_(options) {}

int Budget::window() const {
  if (options_.tokens < 0) return -1;
  return options_.hard ? options_.tokens
                       : int(std::min<int64_t>(1 << 30, options_.tokens + (int64_t(options_.tokens) + 9) / 10));
}

void Budget::extend(int tokens) {
  const auto grown = [](double value, double more) { return value + (more > 0 ? more : value / 2); };
  if (options_.tokens >= 0) options_.tokens = int(std::min(1e9, std::max(1.0, grown(options_.tokens, tokens))));
  // A time is extended by as much as the tokens take at the rate measured, or by half.
  if (options_.seconds >= 0) {
    const double rate = estimate_ > 0 ? estimate_ / options_.seconds : 0;
    options_.seconds = grown(options_.seconds, rate > 0 ? tokens / rate : 0);
    estimate_ = -1;
    measured_at_ = 0;
  }
  state_ = State::free;
  pressure_ = 0;
}

Budget::State Budget::by(double used, double limit, double window, Cause cause) {
  State state = State::free;
  double pressure = 0;
  if (used >= window) {
    state = State::over;
    pressure = 1;
  } else if (!options_.hard && used >= limit) {
    state = State::waiting;
    pressure = 1;
  } else if (!options_.hard && used >= kSoftFrom * limit) {
    state = State::soft;
    pressure = (used - kSoftFrom * limit) / ((1 - kSoftFrom) * limit);
  }
  if (state > state_) {
    state_ = state;
    cause_ = cause;
  }
  pressure_ = std::max(pressure_, pressure);
  return state_;
}

Budget::State Budget::look(int own, int total, double now) {
  state_ = State::free;
  pressure_ = 0;
  // Room first: the tokens that may still be thought, however they are limited.
  const int left = options_.room - options_.answer - options_.closing - total;
  if (left <= 0) return by(1, 1, 1, Cause::tokens);
  if (!options_.hard) {
    const double most = double(own + left);
    by(own, most / kWindow, most, Cause::tokens);
  }
  if (options_.tokens >= 0) by(own, options_.tokens, window(), Cause::tokens);
  if (options_.seconds >= 0 && own > 0) {
    if (started_ < 0) started_ = now;
    const double elapsed = now - started_;
    if (own >= kFirstMeasure && (estimate_ < 0 || own - measured_at_ >= kMeasureEvery) && elapsed > 0) {
      estimate_ = own * options_.seconds / elapsed;
      measured_at_ = own;
    }
    const double clock_window = options_.seconds * (options_.hard ? 1 : kWindow);
    by(elapsed, options_.seconds, clock_window, Cause::seconds);
    if (estimate_ > 0) by(own, estimate_, estimate_ * (options_.hard ? 1 : kWindow), Cause::seconds);
  }
  return state_;
}

}  // namespace ponder::reason
