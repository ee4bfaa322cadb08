#include "cli/repl.h"

#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "base/os/system.h"
#include "cli/chat_view.h"
#include "cli/keys.h"
#include "cli/terminal.h"
#include "runtime/vote_json.h"
#include "runtime/think.h"

namespace ponder::cli {
namespace {

constexpr const char* kHelp =
    "/set parameter NAME VALUE   a sampling option (temperature, top_p, num_ctx, ...)\n"
    "/set system TEXT            the system message\n"
    "/set think, nothink         let the model think, or not\n"
    "/set think HOW              minimal, low, medium, high, max, 4096 (tokens), 30s\n"
    "/set vote N                 the answer of most of N chains; off: one chain again\n"
    "/set verbose, quiet         figures after each answer, or not\n"
    "/show                       what the model is and its settings\n"
    "/clear                      forget the conversation (the system message stays)\n"
    "/bye                        leave (also Ctrl-D)\n"
    "\"\"\"                         begins and ends a message of several lines\n"
    "Ctrl-C stops an answer. While it thinks: a answers now, m thinks more, n adds a note, Esc stops.\n";

// One line without its newline; nullopt at the end of input. An interrupted read gives an empty line.
std::optional<std::string> read_line(const char* prompt) {
  fmt::print("{}", prompt);
  std::fflush(stdout);
  std::string line;
  for (;;) {
    const int c = std::fgetc(stdin);
    if (c == EOF) {
      const bool interrupted = std::ferror(stdin) && errno == EINTR;
      std::clearerr(stdin);
      if (interrupted) return "";
      if (line.empty()) return std::nullopt;
      return line;
    }
    if (c == '\n') return line;
    line += char(c);
  }
}

// A whole message: one line, or everything between two """.
std::optional<std::string> read_message() {
  auto line = read_line(">>> ");
  if (!line || !line->starts_with("\"\"\"")) return line;
  std::string text = line->substr(3);
  while (!text.ends_with("\"\"\"")) {
    auto more = read_line("... ");
    if (!more) return std::nullopt;
    if (os::interrupted()) return "";
    text += "\n" + *more;
  }
  text.resize(text.size() - 3);
  return text;
}

class Repl {
 public:
  Repl(runtime::Client& client, runtime::ChatRequest request, ReplOptions options)
      : client_(client), request_(std::move(request)), options_(options) {}

  Result<void> loop() {
    // Load first, so that the first answer comes at once and an unfit model is told now.
    {
      runtime::ChatRequest load = request_;
      load.messages.clear();
      ChatView view(true);
      auto loaded = client_.chat(load, view.sink(), &os::interrupt_flag());
      view.finish();
      if (!loaded.ok()) return std::move(loaded).error();
    }
    fmt::print(stderr, "{} is ready. /? for help, Ctrl-D to leave.\n", request_.model);
    for (;;) {
      os::interrupt_taken();
      auto message = read_message();
      if (!message) {
        fmt::print("\n");
        return {};
      }
      if (os::interrupted()) {
        fmt::print("\nUse Ctrl-D or /bye to leave.\n");
        continue;
      }
      if (message->find_first_not_of(" \t") == std::string::npos) continue;
      if (message->starts_with('/') && !message->starts_with("//")) {
        if (*message == "/bye" || *message == "/exit") return {};
        command(*message);
        continue;
      }
      answer(std::move(*message));
    }
  }

 private:
  void answer(std::string text) {
    chat::Message user;
    user.role = "user";
    user.content = std::move(text);
    request_.messages.push_back(std::move(user));
    ChatView view(options_.hide_thinking);
    auto result = [&] {
      request_.id = fresh_request_id();
      const Keys keys(client_, request_.id, view);
      return client_.chat(request_, view.sink(), &os::interrupt_flag());
    }();
    view.finish();
    if (!result.ok() || result->done_reason == "cancelled") {
      request_.messages.pop_back();  // as if it had not been asked
      fmt::print(stderr, "{}\n",
                 result.ok() ? "stopped; the question was taken back" : "Error: " + result.error().message);
      return;
    }
    chat::Message reply;
    reply.role = "assistant";
    reply.content = view.content();
    reply.thinking = view.thinking();
    request_.messages.push_back(std::move(reply));
    print_figures(*result, options_.verbose, false);
  }

  void command(const std::string& line) {
    const auto argument = [&](std::string_view name) {
      return line.size() > name.size() ? line.substr(name.size() + 1) : std::string();
    };
    if (line == "/?" || line == "/help") {
      fmt::print("{}", kHelp);
    } else if (line == "/clear") {
      std::erase_if(request_.messages, [](const chat::Message& m) { return m.role != "system"; });
      fmt::print("the conversation is forgotten\n");
    } else if (line == "/set nothink") {
      request_.think = {};
      request_.think.on = false;
    } else if (line == "/set think" || line.starts_with("/set think ")) {
      auto think = runtime::parse_think_text(line == "/set think" ? "on" : argument("/set think"));
      if (think.ok()) {
        request_.think = std::move(*think);
      } else {
        fmt::print("{}\n", think.error().message);
      }
    } else if (line.starts_with("/set vote ")) {
      auto vote = runtime::parse_vote_text(argument("/set vote"));
      if (vote.ok()) request_.vote = *vote;
      if (!vote.ok()) fmt::print("{}\n", vote.error().message);
    } else if (line == "/set verbose" || line == "/set quiet") {
      options_.verbose = line == "/set verbose";
    } else if (line.starts_with("/set system ")) {
      std::erase_if(request_.messages, [](const chat::Message& m) { return m.role == "system"; });
      chat::Message system;
      system.role = "system";
      system.content = argument("/set system");
      request_.messages.insert(request_.messages.begin(), std::move(system));
    } else if (line.starts_with("/set parameter ")) {
      const std::string rest = argument("/set parameter");
      const size_t space = rest.find(' ');
      auto set = runtime::set_option(request_.options, rest.substr(0, space),
                                     space == std::string::npos ? "" : rest.substr(space + 1));
      if (!set.ok()) fmt::print("{}\n", set.error().message);
    } else if (line.starts_with("/show")) {
      auto shown = client_.show(request_.model, false);
      if (!shown.ok()) {
        fmt::print("{}\n", shown.error().message);
      } else {
        fmt::print("{}  {}  {}\n{}", shown->info.details.family, shown->info.details.parameter_size,
                   shown->info.details.quantization_level, shown->parameters);
      }
    } else {
      fmt::print("Unknown command '{}'. Type /? for help\n", line);
    }
  }

  runtime::Client& client_;
  runtime::ChatRequest request_;
  ReplOptions options_;
};

}  // namespace

Result<void> run_repl(runtime::Client& client, runtime::ChatRequest request, ReplOptions options) {
  return Repl(client, std::move(request), options).loop();
}

}  // namespace ponder::cli
