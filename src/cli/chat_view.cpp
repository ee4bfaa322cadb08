#include "cli/chat_view.h"

#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace ponder::cli {
namespace {

constexpr const char* kDim = "\x1b[2m";
constexpr const char* kPlain = "\x1b[0m";

// A terminal must not obey what a model writes; tabs and newlines are all it may send. Pipes get the bytes as they are.
std::string safe(const std::string& text) {
  if (!stdout_is_terminal()) return text;
  std::string out;
  for (const char c : text)
    if (uint8_t(c) >= 0x20 || c == '\n' || c == '\t') out += c;
  return out;
}

// What ended the thought, where it was not the model.
std::string thought_note(const runtime::ChatResult& r) {
  const std::string& why = r.thinking_done_reason;
  return why == "budget" ? ", ended by its budget"
         : why == "time" ? ", ended by its time"
         : why == "user" ? ", ended by you"
         : why == "loop" ? ", ended because it repeated itself"
         : why == "off"  ? ", switched off"
                         : "";
}

double per_second(int tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0; }

// GB/s: drafts that were right came with another token's reading.
double weights_read(const runtime::ChatResult& r) {
  return per_second(r.output_tokens - 1 - r.accepted_tokens, r.decode_seconds) * double(r.bytes_per_token) * 1e-9;
}

}  // namespace

runtime::ChatSink ChatView::sink() {
  runtime::ChatSink sink;
  sink.on_load = [this](double f) { load_bar_.fraction(f); };
  sink.on_prefill = [this](int done, int total) {
    load_bar_.clear();
    if (total > 512) prefill_bar_.fraction(double(done) / total);
  };
  sink.on_vote = [this](const reason::VoteReport& report) {
    load_bar_.clear();
    prefill_bar_.clear();
    vote_line_.show(report);
  };
  sink.on_delta = [this](runtime::ChatDelta delta) { show(delta); };
  return sink;
}

void ChatView::show(const runtime::ChatDelta& delta) {
  load_bar_.clear();
  prefill_bar_.clear();
  vote_line_.clear();
  runtime::ChatDelta all;
  all.thinking = std::move(thinking_);
  all.content = std::move(content_);
  all.append(delta);
  thinking_ = std::move(all.thinking);
  content_ = std::move(all.content);
  std::lock_guard lock(mutex_);
  if (held_) {
    kept_.append(delta);
  } else {
    print(delta);
  }
}

void ChatView::hold(bool held) {
  std::lock_guard lock(mutex_);
  held_ = held;
  if (!held) print(std::exchange(kept_, {}));
}

void ChatView::print(const runtime::ChatDelta& delta) {
  if (delta.thinking_retracted > 0 && in_thought_) {
    fmt::print("{}[it repeated itself: {} characters taken back]\n", line_open_ ? "\n" : "", delta.thinking_retracted);
    line_open_ = false;
  }
  if (!delta.thinking.empty() && !hide_thinking_) {
    if (!in_thought_) {
      fmt::print("{}Thinking...{}\n", stdout_is_terminal() ? kDim : "",
                 keys_ ? "  (a: answer now, m: think more, n: add a note, Esc: stop)" : "");
      in_thought_ = true;
    }
    fmt::print("{}", safe(delta.thinking));
    line_open_ = delta.thinking.back() != '\n';
  }
  if (!delta.content.empty()) {
    close_thought();
    fmt::print("{}", safe(delta.content));
    line_open_ = delta.content.back() != '\n';
  }
  std::fflush(stdout);
}

void ChatView::close_thought() {
  if (!in_thought_) return;
  fmt::print("{}...done thinking.{}\n\n", line_open_ ? "\n" : "", stdout_is_terminal() ? kPlain : "");
  in_thought_ = line_open_ = false;
}

void ChatView::finish() {
  hold(false);
  load_bar_.clear();
  prefill_bar_.clear();
  vote_line_.clear();
  close_thought();
  if (line_open_) fmt::print("\n");
  line_open_ = false;
  std::fflush(stdout);
}

std::string speed_line(const runtime::ChatResult& r, double read) {
  const double rate = per_second(r.output_tokens - 1, r.decode_seconds);
  const double gb = weights_read(r);
  std::string line = r.thinking_tokens > 0
                         ? fmt::format("thought {}, answered {} tokens", r.thinking_tokens, r.answer_tokens)
                         : fmt::format("answered {} tokens", r.answer_tokens);
  line += fmt::format(" · first token after {} · {:.1f} tokens/s", human_duration(r.first_token_seconds), rate);
  if (gb > 0) line += fmt::format(" · {:.1f} GB/s of weights", gb);
  if (gb > 0 && read > 0) line += fmt::format(" ({:.0f} % of this machine's {:.1f})", 100 * gb / read, read);
  return line;
}

std::string verbose_table(const runtime::ChatResult& r, double read) {
  const double rate = per_second(r.output_tokens - 1, r.decode_seconds);
  const double gb = weights_read(r);
  std::string t;
  const auto row = [&](const char* name, const std::string& value) {
    t += fmt::format("{:<22}{}\n", std::string(name) + ":", value);
  };
  row("total duration", human_duration(r.total_seconds));
  row("load duration", human_duration(r.load_seconds));
  row("time to first token", human_duration(r.first_token_seconds));
  row("prompt eval count",
      fmt::format("{} token(s){}", r.prompt_tokens,
                  r.cached_tokens > 0 ? fmt::format(", {} of them from the cache", r.cached_tokens) : ""));
  row("prompt eval duration", human_duration(r.prompt_seconds));
  row("prompt eval rate",
      fmt::format("{:.2f} tokens/s", per_second(r.prompt_tokens - r.cached_tokens, r.prompt_seconds)));
  row("eval count", fmt::format("{} token(s)", r.output_tokens));
  row("  thinking", fmt::format("{} token(s){}", r.thinking_tokens, thought_note(r)));
  row("  answer", fmt::format("{} token(s)", r.answer_tokens));
  if (r.drafted_tokens > 0)
    row("  drafted", fmt::format("{} token(s), {} of them right ({:.0f} %)", r.drafted_tokens, r.accepted_tokens,
                                 100.0 * r.accepted_tokens / r.drafted_tokens));
  row("eval duration", human_duration(r.decode_seconds));
  row("eval rate", fmt::format("{:.2f} tokens/s", rate));
  if (gb > 0)
    row("weights read",
        fmt::format("{:.1f} GB/s{}", gb,
                    read > 0 ? fmt::format(", {:.0f} % of the measured {:.1f}", 100 * gb / read, read) : ""));
  row("memory", human_bytes(r.memory_bytes));
  row("context", fmt::format("{} of {} tokens", r.prompt_tokens + r.output_tokens, r.context_length));
  row("seed", fmt::format("{}", r.seed));
  row("ended by", r.done_reason);
  return t;
}

std::string ending_note(const runtime::ChatResult& r) {
  if (r.done_reason == "loop") return "stopped: the model kept repeating itself";
  if (r.done_reason == "length") return "stopped: num_predict was reached";
  if (r.done_reason == "context")
    return fmt::format("stopped: the context of {} tokens is full; raise --num-ctx or begin a new conversation",
                       r.context_length);
  return {};
}

}  // namespace ponder::cli
