#include "cli/terminal.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include <fmt/format.h>

#include "base/os/system.h"
#include "base/utf8.h"

namespace ponder::cli {
namespace {

constexpr double kRedraw = 0.1;  // seconds

// Not fmt::print, which throws when nobody reads it: a download goes on without its bar.
void put(const std::string& text) { std::fputs(text.c_str(), stderr); }

std::string plural(int64_t n, const char* unit) { return fmt::format("{} {}{}", n, unit, n == 1 ? "" : "s"); }

std::string coarse(int64_t s) {
  if (s < 60) return plural(std::max<int64_t>(s, 0), "second");
  if (s < 3600) return plural(s / 60, "minute");
  if (s < 86400) return plural(s / 3600, "hour");
  if (s < 14 * 86400) return plural(s / 86400, "day");
  if (s < 60 * 86400) return plural(s / (7 * 86400), "week");
  if (s < 730 * 86400) return plural(s / (30 * 86400), "month");
  return plural(s / (365 * 86400), "year");
}

}  // namespace

bool stdout_is_terminal() { return os::is_terminal(1); }
bool stderr_is_terminal() { return os::is_terminal(2); }

std::string read_stdin() {
  std::string text;
  char buffer[65536];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) text.append(buffer, n);
  return text;
}

std::string human_bytes(uint64_t bytes) {
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  double v = double(bytes);
  int u = 0;
  while (v >= 1000 && u < 4) v /= 1000, ++u;
  return u == 0   ? fmt::format("{} B", bytes)
         : v < 10 ? fmt::format("{:.1f} {}", v, units[u])
                  : fmt::format("{:.0f} {}", v, units[u]);
}

std::string human_ago(int64_t t) { return t <= 0 ? "-" : coarse(int64_t(std::time(nullptr)) - t) + " ago"; }
std::string human_until(int64_t t) {
  return t <= 0 ? "Forever" : coarse(t - int64_t(std::time(nullptr))) + " from now";
}

std::string human_duration(double s) {
  if (s < 1e-3) return fmt::format("{:.0f}µs", s * 1e6);
  if (s < 1) return fmt::format("{:.1f}ms", s * 1e3);
  if (s < 60) return fmt::format("{:.2f}s", s);
  return fmt::format("{}m{:02}s", int64_t(s) / 60, int64_t(s) % 60);
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : utf8::sanitize(text)) {
    const bool control = (uint8_t(c) < 0x20 && c != '\n' && c != '\t') || uint8_t(c) == 0x7f;
    if (control) {
      out += fmt::format("\\x{:02x}", uint8_t(c));
    } else {
      out += c;
    }
  }
  return out;
}

void ProgressBar::update(uint64_t done, uint64_t total) {
  if (!stderr_is_terminal() || done_) return;
  const double now = os::monotonic_seconds();
  if (started_ == 0) started_ = now, first_ = done;
  if (now - drawn_ < kRedraw && done < total) return;
  const double rate = now > started_ ? double(done - std::min(first_, done)) / (now - started_) : 0;
  std::string tail = total > 0 ? human_bytes(done) + "/" + human_bytes(total) : human_bytes(done);
  if (rate > 0) {
    tail += fmt::format("  {}/s", human_bytes(uint64_t(rate)));
    if (total > done) tail += "  " + fmt::format("{:.0f}s", std::ceil(double(total - done) / rate));
  }
  draw(total > 0 ? double(done) / double(total) : 0, tail);
}

void ProgressBar::fraction(double f) {
  if (!stderr_is_terminal() || done_) return;
  const double now = os::monotonic_seconds();
  if (started_ == 0) started_ = now;
  if (now - drawn_ < kRedraw && f < 1) return;
  const double left = f > 0.02 ? (now - started_) * (1 - f) / f : 0;
  draw(f, left > 1 ? fmt::format("{:.0f}s", std::ceil(left)) : "");
}

void ProgressBar::draw(double f, const std::string& tail) {
  drawn_ = os::monotonic_seconds();
  visible_ = true;
  const int columns = os::terminal_size().columns;
  const int width = std::max(0, std::min(40, columns - int(label_.size()) - int(tail.size()) - 14));
  const int full = int(std::clamp(f, 0.0, 1.0) * width);
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < full ? "█" : " ";
  put(fmt::format("\r\x1b[2K{} {:3.0f}% ▕{}▏ {}", label_, std::clamp(f, 0.0, 1.0) * 100, bar, tail));
  std::fflush(stderr);
}

void ProgressBar::finish() {
  if (visible_) put("\n");
  visible_ = false;
  done_ = true;
}

void ProgressBar::clear() {
  if (visible_) {
    put("\r\x1b[2K");
    std::fflush(stderr);
  }
  visible_ = false;
}

void PullBar::update(const store::PullProgress& p) {
  if (p.status != status_) {
    if (bar_) bar_->finish();
    bar_.reset();
    status_ = p.status;
    if (p.digest.empty() || !stderr_is_terminal()) put(printable(p.status) + "\n");
    if (!p.digest.empty()) bar_ = std::make_unique<ProgressBar>(printable(p.status));
  }
  if (bar_) bar_->update(p.completed, p.total);
}

}  // namespace ponder::cli
