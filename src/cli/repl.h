// A plain conversation on the terminal: lines, """ for several of them, a few slash commands.
#pragma once

#include "base/result.h"
#include "runtime/client.h"

namespace ponder::cli {

struct ReplOptions {
  bool hide_thinking = false;
  bool verbose = false;
};

/// `request` holds model, options, think and a system message if there is one; the conversation is kept in it.
Result<void> run_repl(runtime::Client& client, runtime::ChatRequest request, ReplOptions options);

/// Notes, and the figures of one reply as asked for, on stderr.
void print_figures(const runtime::ChatResult& result, bool verbose, bool speed);

}  // namespace ponder::cli
