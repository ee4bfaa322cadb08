// What every command shares: the store, the flags that choose how models run, and the way to reach them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "runtime/client.h"
#include "runtime/loaded_model.h"
#include "store/store.h"

namespace ponder::cli {

/// --backend, --threads, --precision, --kv: of every command that computes.
struct ComputeFlags {
  runtime::RuntimeOptions options;
  bool given = false;  ///< the person chose: then the work is done here, not by a server

  void add_to(CLI::App& command);
  /// After parsing: what was not said comes from the environment. Throws CLI::ValidationError, as parsing does.
  void finish(const CLI::App& command);
};

/// --temperature, --top-p, ...: Ollama's option names with dashes.
struct SamplingFlags {
  runtime::Options options;
  void add_to(CLI::App& command);

 private:
  std::vector<std::pair<std::string, std::string>> given_;
  friend Result<void> apply(SamplingFlags& flags);
};
/// Reads the flags' values; an error names the option.
Result<void> apply(SamplingFlags& flags);

class Context {
 public:
  Context();

  store::Store& store() { return store_; }
  /// The server's address: --host, else OLLAMA_HOST.
  Result<runtime::Address> address(const std::string& host_flag) const;
  /// A client for `model`: a Ponder server if one is up and may be used, else this process.
  Result<runtime::Client*> client(const std::string& model, const ComputeFlags& flags);
  /// A client of this process.
  Result<runtime::Client*> local(const ComputeFlags& flags);
  /// A store name or a file, opened without placing weights.
  Result<std::shared_ptr<const runtime::OpenModel>> open(const std::string& model) const;
  /// Fetches `model` if it is a name that is not here (with a progress bar), as `run` does.
  Result<void> ensure_present(runtime::Client& client, const std::string& model);

  int exit_code = 0;

 private:
  store::Store store_;
  std::unique_ptr<runtime::Runtime> runtime_;
  std::unique_ptr<runtime::Client> client_;
};

/// Prints "Error: ..." to stderr and sets exit code 1 (130 when cancelled).
void report(Context& context, const Error& error);

/// Prints JSON, for programs. What is no UTF-8 in it (a path, text of a file) is replaced.
void print_json(const nlohmann::json& value);

}  // namespace ponder::cli
