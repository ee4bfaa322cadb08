// The store on a command line of its own, for the registry test: what `ponder pull, list, show, rm,
// create` do, with the retry and time-out settings as options, and progress as one line per event
// that a script can read.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/os/system.h"
#include "store/pull.h"
#include "store/store.h"

using namespace ponder;

namespace {

int fail(const Error& error) {
  std::printf("error %s: %s\n", to_string(error.code), error.message.c_str());
  return error.code == ErrorCode::cancelled ? 130 : 1;
}

int usage() {
  std::fputs(
      "store_tool pull NAME [--insecure] [--attempts N] [--delay MS] [--stall S] [--cancel-after "
      "MS]\n"
      "store_tool list | show NAME | rm NAME | cp A B | create NAME FILE.gguf\n",
      stderr);
  return 2;
}

int pull(store::Store& models, const store::Name& name, const std::vector<std::string>& args) {
  store::PullOptions options;
  double cancel_at = 0;
  for (size_t i = 0; i < args.size(); ++i) {
    const bool has_value = i + 1 < args.size();
    if (args[i] == "--insecure")
      options.insecure = true;
    else if (args[i] == "--attempts" && has_value)
      options.attempts = std::atoi(args[++i].c_str());
    else if (args[i] == "--delay" && has_value)
      options.first_delay_ms = std::atoi(args[++i].c_str());
    else if (args[i] == "--stall" && has_value)
      options.stall_timeout_s = std::atoi(args[++i].c_str());
    else if (args[i] == "--cancel-after" && has_value)
      cancel_at = os::monotonic_seconds() + std::atof(args[++i].c_str()) / 1000;
    else
      return usage();
  }
  options.cancelled = [&] { return os::interrupted() || (cancel_at > 0 && os::monotonic_seconds() >= cancel_at); };
  options.progress = [](const store::PullProgress& p) {
    std::printf("progress %s|%s|%llu|%llu\n", p.status.c_str(), p.digest.c_str(),
                static_cast<unsigned long long>(p.completed), static_cast<unsigned long long>(p.total));
    std::fflush(stdout);
  };
  auto done = store::pull(models, name, options);
  if (!done.ok()) {
    if (cancel_at > 0) std::printf("late %.0f ms\n", (os::monotonic_seconds() - cancel_at) * 1000);
    return fail(done.error());
  }
  std::printf("ok %s %s\n", done->name.display().c_str(), done->digest.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  os::catch_interrupts();
  set_log_sink([](LogLevel, std::string_view text) { std::fprintf(stderr, "%.*s\n", int(text.size()), text.data()); });
  std::vector<std::string> args(argv + 1, argv + argc);
  if (args.empty()) return usage();
  const std::string command = args[0];
  store::Store models(store::StoreOptions::from_environment());
  if (command == "list") {
    const auto all = models.list();
    if (!all.ok()) return fail(all.error());
    for (const auto& m : *all)
      std::printf("%s\t%s\t%llu\t%s\t%s\n", m.name.display().c_str(), m.digest.substr(0, 12).c_str(),
                  static_cast<unsigned long long>(m.size), m.details.parameter_size.c_str(),
                  m.details.quantization_level.c_str());
    return 0;
  }
  if (args.size() < 2) return usage();
  const auto name = store::Name::parse(args[1]);
  if (!name.ok()) return fail(name.error());
  if (command == "pull") return pull(models, *name, {args.begin() + 2, args.end()});
  if (command == "show") {
    const auto m = models.resolve(*name);
    if (!m.ok()) return fail(m.error());
    std::printf(
        "path=%s\ndigest=%s\nsource=%s\nsystem=%s\ntemplate=%s\nparams=%s\nlicenses=%zu\nfamily=%"
        "s\n",
        m->path.c_str(), m->digest.c_str(), m->source.c_str(), m->system.c_str(), m->template_text.c_str(),
        m->params_json.c_str(), m->licenses.size(), m->details.family.c_str());
    return 0;
  }
  if (command == "rm") {
    const auto done = models.remove(*name);
    return done.ok() ? 0 : fail(done.error());
  }
  if (args.size() < 3) return usage();
  if (command == "create") {
    const auto done = models.create_from_file(*name, args[2]);
    return done.ok() ? 0 : fail(done.error());
  }
  if (command == "cp") {
    const auto to = store::Name::parse(args[2]);
    if (!to.ok()) return fail(to.error());
    const auto done = models.copy(*name, *to);
    return done.ok() ? 0 : fail(done.error());
  }
  return usage();
}
