// The one log sink. Libraries never print: they call log(level, text), and the program decides where that goes
// (cli: stderr through spdlog; tests: nowhere).
#pragma once

#include <functional>
#include <string_view>

namespace ponder {

enum class LogLevel { debug, info, warning, error };

using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Replaces the sink (thread-safe); an empty function silences the log, which is the default.
void set_log_sink(LogSink sink);
void log(LogLevel level, std::string_view text);

}  // namespace ponder
