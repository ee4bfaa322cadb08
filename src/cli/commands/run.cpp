// ponder run MODEL|FILE [PROMPT]: one answer, or a conversation when there is no prompt and a terminal to talk to.
#include <cstdio>
#include <iostream>

#include <fmt/format.h>

#include "base/os/file.h"
#include "base/os/system.h"
#include "cli/chat_view.h"
#include "cli/context.h"
#include "cli/keys.h"
#include "cli/repl.h"
#include "cli/terminal.h"
#include "cli/vote_view.h"
#include "runtime/backends.h"
#include "runtime/think.h"
#include "runtime/vote_json.h"
#include "runtime/wire.h"

namespace ponder::cli {
namespace {

struct RunFlags {
  std::string model;
  std::vector<std::string> prompt;
  std::string system, think, vote, keep_alive, receipt;
  bool keep_thoughts = false, hide_thinking = false, verbose = false, speed = false;
  ComputeFlags compute;
  SamplingFlags sampling;
};

Result<void> run(Context& context, RunFlags& flags) {
  os::catch_interrupts();
  PONDER_CHECK_OK(apply(flags.sampling));
  runtime::ChatRequest request;
  request.model = flags.model;
  request.options = flags.sampling.options;
  PONDER_TRY(request.think, runtime::parse_think_text(flags.think));
  PONDER_TRY(request.vote, runtime::parse_vote_text(flags.vote));
  if (!flags.keep_alive.empty()) {
    PONDER_TRY(request.keep_alive, runtime::wire::parse_keep_alive(flags.keep_alive));
  }
  request.keep_thoughts = flags.keep_thoughts;
  request.receipt = !flags.receipt.empty();
  if (!flags.system.empty()) {
    chat::Message system;
    system.role = "system";
    system.content = flags.system;
    request.messages.push_back(std::move(system));
  }

  PONDER_TRY(runtime::Client * client, context.client(flags.model, flags.compute));
  PONDER_CHECK_OK(context.ensure_present(*client, flags.model));

  std::string prompt;
  for (const auto& word : flags.prompt) prompt += (prompt.empty() ? "" : " ") + word;
  const bool piped = !os::is_terminal(0);
  if (piped) {
    std::string in = read_stdin();
    while (!in.empty() && in.back() == '\n') in.pop_back();
    if (!in.empty()) prompt = prompt.empty() ? in : in + "\n\n" + prompt;
  }
  if (prompt.empty() && piped)
    return Error{ErrorCode::invalid_argument, "no prompt: give one as an argument or on standard input"};
  if (prompt.empty() && request.receipt)
    return Error{ErrorCode::invalid_argument, "--receipt is for one reply: give the prompt as an argument"};
  if (prompt.empty()) {
    ReplOptions repl;
    repl.hide_thinking = flags.hide_thinking;
    repl.verbose = flags.verbose;
    return run_repl(*client, std::move(request), repl);
  }

  chat::Message user;
  user.role = "user";
  user.content = std::move(prompt);
  request.messages.push_back(std::move(user));
  ChatView view(flags.hide_thinking);
  auto result = [&] {
    request.id = fresh_request_id();
    const Keys keys(*client, request.id, view);
    return client->chat(request, view.sink(), &os::interrupt_flag());
  }();
  view.finish();
  if (!result.ok()) return std::move(result).error();
  print_figures(*result, flags.verbose, flags.speed);
  if (request.receipt) {
    if (result->receipt_json.empty())
      return Error{ErrorCode::unsupported, "no receipt came with the reply (cut off, or the server is an older one)"};
    PONDER_CHECK_OK(os::write_file_atomically(flags.receipt, result->receipt_json + "\n"));
    fmt::print(stderr, "receipt: {0}; check it with: ponder replay {0}\n", flags.receipt);
  }
  if (result->done_reason == "cancelled") context.exit_code = 130;
  return {};
}

}  // namespace

namespace {
// GB/s that all cores (or the card) read together, measured now: machines drift. 0 where it could not be measured.
double read_bandwidth(const std::string& backend) {
  backend::PlanInfo info;
  info.backend = backend;
  info.threads = os::physical_cores();
  if (backend == "cuda") info.cards = {0};
  return runtime::read_bandwidth_of(info) * 1e-9;
}
}  // namespace

void print_figures(const runtime::ChatResult& result, bool verbose, bool speed) {
  for (const auto& warning : result.warnings) fmt::print(stderr, "note: {}\n", printable(warning));
  if (const auto note = ending_note(result); !note.empty()) fmt::print(stderr, "note: {}\n", note);
  if (result.vote) fmt::print(stderr, "vote: {}\n", vote_note(*result.vote));
  if (result.done_reason == "cancelled" && !verbose) return;
  if (verbose || speed) {
    const double read = read_bandwidth(result.backend);
    fmt::print(stderr, "\n{}", verbose ? verbose_table(result, read) : speed_line(result, read) + "\n");
  } else if (stderr_is_terminal()) {
    fmt::print(stderr, "\n\x1b[2m{}\x1b[0m\n", speed_line(result, 0));
  }
}

void add_run(CLI::App& app, Context& context) {
  auto flags = std::make_shared<RunFlags>();  // shared by the callbacks of this command
  auto* command = app.add_subcommand("run", "run a model: one answer to PROMPT, or a conversation");
  command->add_option("model", flags->model, "a model's name, or a GGUF file")->required();
  command->add_option("prompt", flags->prompt, "the question; standard input is put in front of it");
  command->add_option("--system", flags->system, "system message");
  command->add_flag(
      "--think{true}", flags->think,
      "--think=off, minimal, low, medium, high, max, 4096 (tokens), 30s (default: on where the model can)");
  command->add_option("--receipt", flags->receipt, "write what `ponder replay` needs to repeat the reply to this file");
  command->add_flag("--keep-thoughts", flags->keep_thoughts,
                    "earlier thoughts of the conversation stay in its prompts");
  command->add_option("--vote", flags->vote, "the answer of most of so many chains: 8, or an object as JSON");
  command->add_flag("--hidethinking", flags->hide_thinking, "think, but show only the answer");
  command->add_flag("--verbose", flags->verbose, "figures after the answer");
  command->add_flag("--speed", flags->speed, "one line of figures after the answer");
  command->add_option("--keepalive", flags->keep_alive,
                      "how long a server keeps the model in memory: 300, 10m, -1 for ever (default: 5m)");
  flags->compute.add_to(*command);
  flags->sampling.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    if (auto done = run(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
