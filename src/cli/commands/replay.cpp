// ponder replay FILE...: repeats recorded replies and says for each whether every token is drawn again. Exit code 0 when
// all are equal, 1 otherwise.
#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/os/file.h"
#include "base/os/system.h"
#include "cli/context.h"
#include "cli/terminal.h"
#include "runtime/backends.h"
#include "runtime/replay.h"

namespace ponder::cli {
namespace {

using nlohmann::json;

struct ReplayFlags {
  std::vector<std::string> files;
  std::string model;
  bool force = false, json = false;
  bool precision_given = false, kv_given = false, backend_given = false;
  ComputeFlags compute;
};

struct Loaded {
  std::string model, precision, kv_format, backend;
  int64_t kv_tokens = 0;
  std::unique_ptr<runtime::Replayer> replayer;
};

constexpr uint64_t kLargestFile = uint64_t(256) << 20;

Result<runtime::Receipts> read_receipts(const std::string& path) {
  PONDER_TRY(const auto text, os::read_file(path, kLargestFile));
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) return Error{ErrorCode::invalid_file, path + " is not JSON"};
  auto receipt = runtime::receipts_from(object);
  if (!receipt.ok()) return receipt.error().with_context(path);
  return receipt;
}

std::string quoted(const std::string& text) {
  return "\"" + printable(json(text).dump(-1, ' ', false, json::error_handler_t::replace)).substr(1);
}

void tell(const ReplayFlags& flags, const std::string& file, const runtime::ReplayReport& report) {
  json j = to_json(report);
  if (flags.json) {
    j["file"] = file;
    fmt::print("{}\n", j.dump(-1, ' ', false, json::error_handler_t::replace));
    return;
  }
  for (const auto& remark : report.remarks) fmt::print(stderr, "note: {}: {}\n", file, printable(remark));
  const int at = report.differing_chain();
  if (at >= 0) {
    const runtime::ReplayResult& r = report.chains[size_t(at)];
    const auto& d = *r.difference;
    const auto side = [](engine::TokenId id, const std::string& text, const std::string& reason) {
      return id < 0 ? "the reply ended (" + reason + ")" : "token " + std::to_string(id) + " " + quoted(text);
    };
    fmt::print("{}: {}differs at token {} (position {})\n  after:    {}\n  recorded: {}\n  drawn:    {}\n", file,
               report.recorded_vote ? fmt::format("chain {} ", at) : "", d.index + 1, d.position, quoted(r.before),
               side(d.recorded, r.recorded_text, r.recorded_reason), side(d.drawn, r.drawn_text, r.reason));
    return;
  }
  const auto outcome = [](const runtime::VoteRecord& v) {
    return fmt::format("chain {}, {}{}", v.winner, v.answer.empty() ? "no answer" : quoted(v.answer),
                       v.settled ? ", settled" : "");
  };
  if (!report.equal()) {
    fmt::print("{}: all tokens are equal, but the vote differs\n  recorded: {}\n  again:    {}\n", file,
               outcome(*report.recorded_vote), outcome(*report.vote));
    return;
  }
  const int tokens = j["verified_tokens"];
  const double seconds = j["verify_seconds"];
  fmt::print("{}: equal, {}{} tokens in {:.2f} s ({:.0f} tokens/s; prompt of {} in {:.2f} s){}\n", file,
             report.vote ? fmt::format("{} chains, ", report.chains.size()) : "", tokens, seconds,
             seconds > 0 ? tokens / seconds : 0.0, j["prompt_tokens"].get<int>(), j["prompt_seconds"].get<double>(),
             report.vote ? "; the vote: " + outcome(*report.vote) : "");
}

Result<void> replay(Context& context, ReplayFlags& flags) {
  os::catch_interrupts();
  std::vector<runtime::Receipts> receipts;
  for (const auto& file : flags.files) {
    PONDER_TRY(auto read, read_receipts(file));
    receipts.push_back(std::move(read));
  }
  // One model in memory at a time; receipts that need the same one share it.
  Loaded loaded;
  const auto wanted = [&](const runtime::Receipts& all) {
    const runtime::Receipt& r = all.chains[0];
    Loaded l;
    l.model = flags.model.empty() ? r.model : flags.model;
    l.precision = flags.precision_given ? flags.compute.options.precision : r.precision;
    l.kv_format = flags.kv_given ? flags.compute.options.kv_format : r.kv_format;
    l.backend =
        flags.backend_given || !runtime::make_backend(r.backend).ok() ? flags.compute.options.backend : r.backend;
    return l;
  };
  const auto same = [](const Loaded& a, const Loaded& b) {
    return a.model == b.model && a.precision == b.precision && a.kv_format == b.kv_format && a.backend == b.backend;
  };
  for (size_t i = 0; i < receipts.size(); ++i) {
    Loaded need = wanted(receipts[i]);
    if (!loaded.replayer || !same(loaded, need)) {
      for (size_t k = i; k < receipts.size(); ++k)
        if (same(wanted(receipts[k]), need))
          for (const auto& chain : receipts[k].chains)
            need.kv_tokens = std::max(need.kv_tokens, runtime::tokens_needed(chain));
      loaded = Loaded();
      PONDER_TRY(const auto model, context.open(need.model));
      auto options = flags.compute.options;
      options.precision = need.precision;
      options.kv_format = need.kv_format;
      options.backend = need.backend;
      ProgressBar bar("loading");
      PONDER_TRY(need.replayer,
                 runtime::Replayer::load(
                     model, options, need.kv_tokens, [&](double f) { bar.fraction(f); }, &os::interrupt_flag()));
      bar.clear();
      loaded = std::move(need);
    }
    if (const auto why = loaded.replayer->objection(receipts[i].chains[0]); !why.empty()) {
      if (!flags.force)
        return Error{ErrorCode::invalid_argument, flags.files[i] + ": " + why + "; --force replays it all the same"};
      fmt::print(stderr, "note: {}: {}\n", flags.files[i], printable(why));
    }
    auto result = loaded.replayer->run(receipts[i], &os::interrupt_flag());
    if (!result.ok()) return result.error().with_context(flags.files[i]);
    tell(flags, flags.files[i], *result);
    if (!result->equal()) context.exit_code = 1;
  }
  return {};
}

}  // namespace

void add_replay(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ReplayFlags>();  // shared with the callback
  auto* command = app.add_subcommand("replay", "repeat recorded replies and check every token (docs/receipts.md)");
  command->add_option("files", flags->files, "receipts, or replies with one in them (JSON)")->required();
  command->add_option("--model", flags->model, "a model's name, or a GGUF file (default: the receipt's)");
  command->add_flag("--force", flags->force, "replay even if the model or the numerics are others");
  command->add_flag("--json", flags->json, "one JSON object a line");
  flags->compute.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    flags->precision_given = command->count("--precision") > 0;
    flags->kv_given = command->count("--kv") > 0;
    flags->backend_given = command->count("--backend") > 0;
    if (auto done = replay(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
