// ponder serve: the HTTP API until Ctrl-C or SIGTERM.
#include <cstdio>
#include <thread>

#include <fmt/format.h>

#include "base/os/system.h"
#include "cli/context.h"
#include "server/server.h"

namespace ponder::cli {
namespace {

struct ServeFlags {
  std::string host;
  ComputeFlags compute;
};

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

Result<void> serve(Context& context, ServeFlags& flags) {
  os::catch_server_signals();
  server::ServerOptions options;
  PONDER_TRY(options.address, context.address(flags.host));
  if (const auto origins = os::env("OLLAMA_ORIGINS")) options.origins = split_commas(*origins);
  PONDER_TRY(auto runtime, runtime::Runtime::create(context.store(), flags.compute.options));
  PONDER_TRY(auto server, server::Server::start(*runtime, options));
  // Not fmt::print, which throws when nobody reads it.
  const std::string where = runtime::authority({options.address.host, server->port()});
  std::fprintf(stderr, "Ponder serves on http://%s (Ctrl-C stops it)\n", where.c_str());
  while (!os::interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  server->stop();
  return {};
}

}  // namespace

void add_serve(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ServeFlags>();  // shared with the callback
  auto* command = app.add_subcommand("serve", "serve the HTTP API (Ollama's and OpenAI's routes)");
  command->add_option("--host", flags->host, "address to listen on (default: OLLAMA_HOST, 127.0.0.1:11434)");
  command->add_option(
      "--draft", flags->compute.options.draft,
      "tokens drafted a step where a request does not say: auto (as many as pay), off, or a number (PONDER_DRAFT)");
  flags->compute.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    if (auto done = serve(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
