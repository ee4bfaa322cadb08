// The program. Each command is one file in commands/, found by CMake: it exports add_NAME(app, context), which declares
// its flags and what to do. Start reading at commands/run.cpp.
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "base/log.h"
#include "base/os/system.h"
#include "base/version.h"
#include "cli/context.h"

namespace ponder::cli {
#define PONDER_COMMAND(name) void add_##name(CLI::App& app, Context& context);
#include "cli_commands.inl"
#undef PONDER_COMMAND
}  // namespace ponder::cli

namespace {

void send_log_to_stderr() {
  auto logger = spdlog::stderr_color_mt("ponder");
  logger->set_pattern("%^%l%$: %v");
  logger->set_level(ponder::os::env("PONDER_DEBUG") ? spdlog::level::debug : spdlog::level::warn);
  ponder::set_log_sink([logger](ponder::LogLevel level, std::string_view text) {
    constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                    spdlog::level::err};
    logger->log(levels[int(level)], "{}", text);
  });
}

// Without the values that flags stand for ("--think{true}"), which are for CLI11 only.
class HelpFormatter : public CLI::Formatter {
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    std::string name = CLI::Formatter::make_option_name(option, is_positional);
    for (size_t open; (open = name.find('{')) != std::string::npos;) name.erase(open, name.find('}', open) + 1 - open);
    return name;
  }
};

}  // namespace

int main(int argc, char** argv) {
  using namespace ponder::cli;
  send_log_to_stderr();
  Context context;
  CLI::App app{"Ponder runs reasoning models on your own machine.", "ponder"};
  app.formatter(std::make_shared<HelpFormatter>());  // before the commands, which take it over
  app.require_subcommand(1);
  app.set_version_flag("-v,--version", fmt::format("ponder version is {}", ponder::kVersion));
  app.failure_message(CLI::FailureMessage::simple);
#define PONDER_COMMAND(name) add_##name(app, context);
#include "cli_commands.inl"
#undef PONDER_COMMAND
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;   // not CLI11's codes: 0, 1 and 130 are all there are
  } catch (const std::exception& e) {  // a library's, such as no memory
    fmt::print(stderr, "Error: {}\n", e.what());
    return 1;
  }
  std::fflush(stdout);
  return context.exit_code;
}
