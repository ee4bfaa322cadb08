// ponder bench MODEL: how fast prompts and answers go, and how near that is to what this machine can do. The limits (read
// bandwidth, int8 multiply-adds) are measured first, in the same run, because machines drift.
#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "backend/cpu/limits.h"
#include "base/os/memory.h"
#include "base/os/system.h"
#include "cli/context.h"
#include "cli/terminal.h"
#include "engine/bench.h"
#include "runtime/backends.h"
#include "runtime/direct.h"

namespace ponder::cli {
namespace {

using nlohmann::json;

struct BenchFlags {
  std::string model;
  std::vector<int> prompt = {512}, generate = {128}, depth = {0}, batch = {1}, draft;
  int repeat = 3;
  bool json = false, full = false, sampled = false;
  ComputeFlags compute;
};

// Every prompt and answer length at every depth and batch size; or the set of --full.
std::vector<engine::BenchCase> cases_of(const BenchFlags& flags) {
  if (flags.full) return engine::full_bench();
  std::vector<engine::BenchCase> cases;
  for (const int depth : flags.depth)
    for (const int batch : flags.batch)
      for (const bool prompt : {true, false})
        for (const int n : prompt ? flags.prompt : flags.generate) {
          if (n <= 0) continue;
          cases.push_back({.prompt = prompt, .n = n, .depth = depth, .batch = batch});
          for (const int drafts : flags.draft)
            if (!prompt && drafts > 0) cases.push_back({.n = n, .depth = depth, .batch = batch, .drafts = drafts});
        }
  return cases;
}

json to_json(const engine::BenchResult& m, const backend::PlanInfo& info) {
  json row{{"test", m.test},
           {"tokens_per_second", m.tokens_per_second},
           {"fraction_of_limit", m.fraction},
           {"depth", m.what.depth},
           {"batch", m.what.batch},
           {"drafts", m.what.drafts},
           {"threads", info.threads},
           {"precision", backend::to_string(info.precision)},
           {"slowest", m.slowest},
           {"fastest", m.fastest},
           {"read_gb_per_second", m.read_bandwidth * 1e-9},
           {"host_cores", m.host_cores},
           {"joules_per_token", nullptr}};
  row[m.what.prompt ? "first_token_ms" : "step_ms"] = m.seconds * 1e3;
  if (m.joules_per_token) row["joules_per_token"] = *m.joules_per_token;
  return row;
}

Result<void> bench(Context& context, BenchFlags& flags) {
  os::catch_interrupts();
  PONDER_TRY(const auto model, context.open(flags.model));
  const std::vector<engine::BenchCase> cases = cases_of(flags);
  const auto cards_before = runtime::cards_memory_in_use();
  ProgressBar bar("loading");
  const double load_start = os::monotonic_seconds();
  PONDER_TRY(auto plan, runtime::load_plan(
                            *model, flags.compute.options, engine::bench_kv_tokens(cases),
                            std::max(32, engine::bench_sequences(cases)), [&](double f) { bar.fraction(f); },
                            &os::interrupt_flag()));
  const double load_seconds = os::monotonic_seconds() - load_start;
  bar.clear();
  const auto& info = plan->info();
  const double read = runtime::read_bandwidth_of(*plan) * 1e-9;
  engine::BenchOptions options;
  options.repeat = flags.repeat;
  options.sampled = flags.sampled;
  // What a card's integer units do at best is not measured: prompts there have no fraction.
  const double gmacs = info.gpu_layers > 0 ? 0 : backend::cpu::measure_int8_gmacs(info.threads);
  options.peak_macs = gmacs * 1e9;
  if (!flags.json)
    fmt::print("{}: {}, {}, {} threads, {} ({}), KV {}; reads {:.1f} GB/s, {}loaded in {:.2f} s{}{}\n\n{}", flags.model,
               info.device, info.isa, info.threads, backend::to_string(info.precision), info.numerics_id,
               backend::to_string(info.kv_format), read, gmacs > 0 ? fmt::format("int8 {:.0f} GMAC/s, ", gmacs) : "",
               load_seconds, info.placement.empty() ? "" : "; ", info.placement, engine::bench_table_head());
  engine::Bench runner(*plan, runtime::bench_meters(*plan), options);
  json results = json::array();
  for (const engine::BenchCase& c : cases) {
    PONDER_TRY(const auto m, runner.measure(c, &os::interrupt_flag()));
    results.push_back(to_json(m, info));
    if (flags.json) continue;
    fmt::print("{}", engine::bench_table_row(m, options));
    std::fflush(stdout);
  }

  const auto& memory = plan->memory_report();
  const os::ProcessMemory process = os::process_memory();
  const auto cards_after = runtime::cards_memory_in_use();
  const bool card = !info.cards.empty() && cards_before && cards_after && *cards_after > *cards_before;
  if (flags.json) {
    json out{{"model", flags.model},
             {"device", info.device},
             {"isa", info.isa},
             {"numerics_id", info.numerics_id},
             {"kv_format", backend::to_string(info.kv_format)},
             {"placement", info.placement},
             {"read_gb_per_second", read},
             {"int8_gmac_per_second", gmacs},
             {"load_seconds", load_seconds},
             {"repeat", flags.repeat},
             {"memory",
              {{"weights", memory.weights + memory.mapped_weights},
               {"scratch", memory.scratch},
               {"kv_per_token", memory.kv_per_token},
               {"resident", process.resident},
               {"resident_peak", process.peak},
               {"cards", nullptr}}},
             {"results", std::move(results)}};
    if (card) out["memory"]["cards"] = *cards_after - *cards_before;
    print_json(out);
    return {};
  }
  const auto mb = [](uint64_t bytes) { return fmt::format("{:.0f} MB", double(bytes) / 1e6); };
  fmt::print("\nmemory: weights {}, work space {}, KV {:.1f} KB per token; process {} now, {} at most{}\n",
             mb(memory.weights + memory.mapped_weights), mb(memory.scratch), double(memory.kv_per_token) / 1e3,
             mb(process.resident), mb(process.peak),
             card ? fmt::format("; the cards' memory grew by {}", mb(*cards_after - *cards_before)) : "");
  return {};
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  auto flags = std::make_shared<BenchFlags>();  // shared with the callback
  auto* command = app.add_subcommand("bench", "measure prefill and decode, beside this machine's limits");
  command->add_option("model", flags->model, "a model's name, or a GGUF file")->required();
  const auto list = [&](const char* name, std::vector<int>& values, const char* what) {
    command->add_option(name, values, what)->delimiter(',')->allow_extra_args(false)->check(CLI::Range(0, 1 << 20));
  };
  list("-p,--prompt", flags->prompt, "prompt tokens (default: 512; 0: none)");
  list("-n,--generate", flags->generate, "generated tokens (default: 128; 0: none)");
  list("-d,--depth", flags->depth, "tokens already in the context (default: 0)");
  command->add_option("-b,--batch", flags->batch, "sequences at once (default: 1)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 64));
  command
      ->add_option("--draft", flags->draft,
                   "tg128+3: steps with so many drafted tokens too, all right (0 to 15, e.g. 1,3,7)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 15));
  command->add_option("-r,--repeat", flags->repeat, "timed runs of each test; the median counts (default: 3)")
      ->check(CLI::Range(1, 100));
  command->add_flag("--full", flags->full,
                    "prompts of 512 and 2048, answers after 0, 8192 and 32768 tokens, 1 to 16 sequences");
  command->add_flag("--sampled", flags->sampled, "draw at temperature 0.6, top-p 0.95, not greedily");
  command->add_flag("--json", flags->json, "one object with all figures instead of the table");
  flags->compute.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    if (auto done = bench(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
