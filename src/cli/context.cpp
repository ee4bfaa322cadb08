#include "cli/context.h"

#include <charconv>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "backend/backend.h"
#include "base/os/system.h"
#include "cli/terminal.h"
#include "runtime/wire.h"

extern "C" {
extern const unsigned char ponder_tiny_begin[];
extern const unsigned char ponder_tiny_end[];
}

namespace ponder::cli {
namespace {

store::Store make_store() {
  store::Store store(store::StoreOptions::from_environment());
  store::BuiltinModel tiny;
  tiny.name = "ponder-tiny";
  tiny.bytes = {ponder_tiny_begin, size_t(ponder_tiny_end - ponder_tiny_begin)};
  tiny.params_json = R"({"temperature": 0})";
  tiny.license = "MIT";
  if (auto set = store.set_builtin(std::move(tiny)); !set.ok()) fmt::print(stderr, "Error: {}\n", set.error().message);
  return store;
}

// Said aloud, or the person wonders why a setting has no effect.
void warn_ignored(const char* variable, const std::string& why) {
  fmt::print(stderr, "Warning: the environment variable {} is ignored: {}\n", variable, why);
}

// A whole number from the environment; 0 when there is none.
int number_in(const char* variable) {
  const auto text = os::env(variable);
  if (!text) return 0;
  int n = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), n);
  if (error == std::errc() && end == text->data() + text->size()) return n;
  warn_ignored(variable, "it is \"" + *text + "\", not a whole number");
  return 0;
}

}  // namespace

void ComputeFlags::add_to(CLI::App& command) {
  command.add_option("--backend", options.backend, "what computes (default: auto, the card where there is one)")
      ->check(CLI::IsMember({"auto", "cuda", "cpu", "reference"}));
  command
      .add_option_function<std::string>(
          "--gpu-layers",
          [this](const std::string& v) { options.gpu_layers = v == "auto" ? -1 : std::atoi(v.c_str()); },
          "layers on the card: a number, or auto, which is all that fit (default: auto)")
      ->check([](const std::string& v) {
        const bool number = !v.empty() && v.size() < 7 && v.find_first_not_of("0123456789") == std::string::npos;
        return v == "auto" || number ? std::string() : "must be auto or a number, not " + v;
      });
  command
      .add_option("--gpu-memory", options.gpu_memory, "memory that may be taken of each card, e.g. 6GB (default: all)")
      ->transform(CLI::AsSizeValue(false));
  command.add_option("-t,--threads", options.threads, "threads that compute (default: physical cores, PONDER_THREADS)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--precision", options.precision, "how exactly (default: standard; docs/numerics.md)")
      ->check(CLI::IsMember({"standard", "fast", "exact"}));
  command
      .add_option("--kv,--kv-cache-type", options.kv_format,
                  "what the KV cache holds; q8 takes half the memory (default: f16, OLLAMA_KV_CACHE_TYPE)")
      ->check(CLI::IsMember({"f16", "q8", "q8_0", "f32"}));
  command.add_flag("--no-repack{false}", options.repack,
                   "compute from the file's own pages: less memory, much slower answers");
}

void ComputeFlags::finish(const CLI::App& command) {
  for (const char* flag :
       {"--backend", "--threads", "--precision", "--kv", "--no-repack", "--gpu-layers", "--gpu-memory"})
    given = given || command.count(flag) > 0;
  if (options.threads == 0) options.threads = number_in("PONDER_THREADS");
  if (const auto kv = os::env("OLLAMA_KV_CACHE_TYPE"); kv && command.count("--kv") == 0) {
    if (!backend::parse_kv_format(*kv))
      throw CLI::ValidationError("OLLAMA_KV_CACHE_TYPE", "is \"" + *kv + "\"; known are f16, q8_0 (or q8) and f32");
    options.kv_format = *kv;
  }
  if (command.get_option_no_throw("--draft") == nullptr || command.count("--draft") == 0)
    options.draft = os::env("PONDER_DRAFT").value_or(options.draft);
  options.default_context = number_in("OLLAMA_CONTEXT_LENGTH");
  if (const int n = number_in("OLLAMA_NUM_PARALLEL"); n > 0) options.max_sequences = n;
  if (const int n = number_in("OLLAMA_MAX_LOADED_MODELS"); n > 0) options.max_loaded_models = n;
  if (const auto keep = os::env("OLLAMA_KEEP_ALIVE")) {
    if (auto seconds = runtime::wire::parse_keep_alive(*keep); seconds.ok())
      options.keep_alive_seconds = *seconds;
    else
      warn_ignored("OLLAMA_KEEP_ALIVE", seconds.error().message);
  }
}

void SamplingFlags::add_to(CLI::App& command) {
  for (const auto& name : runtime::option_names()) {
    std::string flag = "--" + name;
    for (char& c : flag)
      if (c == '_') c = '-';
    command
        .add_option_function<std::vector<std::string>>(
            flag,
            [this, name](const std::vector<std::string>& values) {
              for (const auto& v : values) given_.emplace_back(name, v);
            },
            name == "draft" ? "tokens drafted a step: auto (as many as pay), off, or a number"
                            : "Ollama's option " + name)
        ->group("Sampling")
        ->type_name("VALUE")
        ->expected(1)
        ->allow_extra_args(false)  // the next word is the prompt
        ->take_all();
  }
}

Result<void> apply(SamplingFlags& flags) {
  for (const auto& [name, value] : flags.given_) PONDER_CHECK_OK(runtime::set_option(flags.options, name, value));
  return {};
}

Context::Context() : store_(make_store()) {}

Result<runtime::Address> Context::address(const std::string& host_flag) const {
  return runtime::parse_address(host_flag.empty() ? os::env("OLLAMA_HOST").value_or("") : host_flag);
}

Result<runtime::Client*> Context::local(const ComputeFlags& flags) {
  auto options = flags.options;
  options.allow_paths = true;
  PONDER_TRY(runtime_, runtime::Runtime::create(store_, options));
  client_ = runtime::make_local_client(*runtime_);
  return client_.get();
}

Result<runtime::Client*> Context::client(const std::string& model, const ComputeFlags& flags) {
  if (flags.given || runtime::is_path(model)) return local(flags);
  PONDER_TRY(const auto server, address(""));
  auto remote = runtime::connect(server);
  if (!remote.ok()) return local(flags);  // nobody there, or another program: work alone
  client_ = std::move(*remote);
  return client_.get();
}

Result<std::shared_ptr<const runtime::OpenModel>> Context::open(const std::string& model) const {
  return runtime::open_model(store_, model, /*allow_path=*/true);
}

Result<void> Context::ensure_present(runtime::Client& client, const std::string& model) {
  if (runtime::is_path(model)) return {};
  const auto here = client.exists(model);
  if (!here.ok() || *here) return {};  // errors come back with more context
  PullBar bar;
  return client.pull(model, false, [&](const store::PullProgress& p) { bar.update(p); }, &os::interrupt_flag());
}

void report(Context& context, const Error& error) {
  fmt::print(stderr, "Error: {}\n", error.message);
  context.exit_code = error.code == ErrorCode::cancelled ? 130 : 1;
}

void print_json(const nlohmann::json& value) {
  fmt::print("{}\n", value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace ponder::cli
