// ponder bench MODEL: how fast prompts and answers go, and how near that is to what this machine can do. The limits (read
// bandwidth, int8 multiply-adds) are measured first, in the same run, because machines drift.
#include <algorithm>
#include <cstdio>
#include <random>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "backend/cpu/limits.h"
#include "base/os/system.h"
#include "cli/context.h"
#include "cli/terminal.h"
#include "runtime/backends.h"
#include "runtime/direct.h"

namespace ponder::cli {
namespace {

using nlohmann::json;

struct BenchFlags {
  std::string model;
  std::vector<int> prompt = {512}, generate = {128}, depth = {0}, batch = {1};
  int repeat = 3;
  bool json = false;
  ComputeFlags compute;
};

struct Measured {
  std::string test;
  int depth = 0, batch = 1;
  double tokens_per_second = 0, slowest = 0, fastest = 0;
  double fraction = 0;
  double limit_gb = 0;  // read bandwidth of the same minute (tg), GB/s
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

class Bench {
 public:
  explicit Bench(backend::Plan& plan) : plan_(plan) {}

  // Feeds `n` random tokens to each sequence in batches of 512 rows; the last row asks for a token if `draw`.
  Result<double> prefill(std::vector<std::unique_ptr<backend::SequenceState>>& states, int n) {
    const double start = os::monotonic_seconds();
    for (auto& state : states)
      for (int done = 0; done < n;) {
        const int rows = std::min(512, n - done);
        PONDER_CHECK_OK(state->reserve(rows));
        backend::Batch batch;
        for (int i = 0; i < rows; ++i) batch.rows.push_back(row(*state, state->length() + i));
        if (done + rows == n) batch.rows.back().sampling = &greedy_;
        PONDER_CHECK_OK(plan_.launch(batch, &os::interrupt_flag()));
        PONDER_TRY(const auto results, plan_.collect());
        (void)results;
        done += rows;
      }
    return os::monotonic_seconds() - start;
  }

  Result<double> decode(std::vector<std::unique_ptr<backend::SequenceState>>& states, int n) {
    const double start = os::monotonic_seconds();
    for (int step = 0; step < n; ++step) {
      backend::Batch batch;
      for (auto& state : states) {
        PONDER_CHECK_OK(state->reserve(1));
        batch.rows.push_back(row(*state, state->length()));
        batch.rows.back().sampling = &greedy_;
      }
      PONDER_CHECK_OK(plan_.launch(batch, &os::interrupt_flag()));
      PONDER_TRY(const auto results, plan_.collect());
      (void)results;
    }
    return os::monotonic_seconds() - start;
  }

  Result<Measured> measure(bool prompt, int n, int depth, int batch, int repeat, double int8_gmacs) {
    Measured m{fmt::format("{}{}", prompt ? "pp" : "tg", n), depth, batch, 0, 0, 0, 0, 0};
    std::vector<double> rates, reads;
    const auto& spec = plan_.spec();
    for (int r = 0; r <= repeat; ++r) {  // the first is a warm-up
      std::vector<std::unique_ptr<backend::SequenceState>> states;
      for (int b = 0; b < batch; ++b) states.push_back(plan_.new_state());
      if (depth > 0) {
        PONDER_TRY([[maybe_unused]] const double filled, prefill(states, depth));
      }
      const int tokens = r == 0 ? std::min(n, prompt ? 64 : 4) : n;
      PONDER_TRY(const double seconds, prompt ? prefill(states, tokens) : decode(states, tokens));
      if (r == 0) continue;
      rates.push_back(double(tokens) * batch / seconds);
      if (prompt) continue;
      reads.push_back(runtime::read_bandwidth_of(plan_.info()));
    }
    m.tokens_per_second = median(rates);
    m.slowest = *std::min_element(rates.begin(), rates.end());
    m.fastest = *std::max_element(rates.begin(), rates.end());
    if (prompt) {
      if (int8_gmacs > 0) m.fraction = m.tokens_per_second * double(spec.linear_macs()) * 1e-9 / int8_gmacs;
    } else {
      const double read = median(reads);
      const double kv = double(plan_.memory_report().kv_per_token) * (depth + n / 2.0) * batch;
      if (read > 0)
        m.fraction = m.tokens_per_second / batch * (double(plan_.info().bytes_per_token) + kv) * 1e-9 / read;
      m.limit_gb = read;
    }
    return m;
  }

 private:
  backend::Row row(backend::SequenceState& state, int position) {
    backend::Row r;
    r.sequence = &state;
    r.token = int32_t(rng_() % uint32_t(plan_.spec().vocab_size));
    r.position = position;
    return r;
  }

  static sample::Params greedy_params() {
    sample::Params p;
    p.temperature = 0;
    return p;
  }

  backend::Plan& plan_;
  std::mt19937 rng_{1};
  const sample::Params params_ = greedy_params();
  const sample::Request greedy_ = [this] {
    sample::Request r;
    r.params = &params_;
    return r;
  }();
};

Result<void> bench(Context& context, BenchFlags& flags) {
  os::catch_interrupts();
  PONDER_TRY(const auto model, context.open(flags.model));
  const auto most = [](const std::vector<int>& v) { return v.empty() ? 0 : *std::max_element(v.begin(), v.end()); };
  const int64_t per_sequence =
      backend::kv::kPageTokens + most(flags.depth) + std::max(most(flags.prompt), most(flags.generate));
  ProgressBar bar("loading");
  const double load_start = os::monotonic_seconds();
  PONDER_TRY(auto plan,
             runtime::load_plan(
                 *model, flags.compute.options, per_sequence * most(flags.batch), std::max(32, most(flags.batch)),
                 [&](double f) { bar.fraction(f); }, &os::interrupt_flag()));
  const double load_seconds = os::monotonic_seconds() - load_start;
  bar.clear();
  const auto& info = plan->info();
  const double read = runtime::read_bandwidth_of(info);
  // What a card's integer units do at best is not measured: prompts there have no fraction.
  const double gmacs = info.gpu_layers > 0 ? 0 : backend::cpu::measure_int8_gmacs(info.threads);
  Bench runner(*plan);
  std::vector<Measured> all;
  for (const int depth : flags.depth)
    for (const int batch : flags.batch) {
      for (const int n : flags.prompt)
        if (n > 0) {
          PONDER_TRY(auto m, runner.measure(true, n, depth, batch, flags.repeat, gmacs));
          all.push_back(m);
        }
      for (const int n : flags.generate)
        if (n > 0) {
          PONDER_TRY(auto m, runner.measure(false, n, depth, batch, flags.repeat, gmacs));
          all.push_back(m);
        }
    }

  if (flags.json) {
    json results = json::array();
    for (const auto& m : all)
      results.push_back({{"test", m.test},
                         {"tokens_per_second", m.tokens_per_second},
                         {"fraction_of_limit", m.fraction},
                         {"depth", m.depth},
                         {"batch", m.batch},
                         {"threads", info.threads},
                         {"precision", backend::to_string(info.precision)},
                         {"slowest", m.slowest},
                         {"fastest", m.fastest},
                         {"read_gb_per_second", m.limit_gb}});
    fmt::print("{}\n", json{{"model", flags.model},
                            {"device", info.device},
                            {"isa", info.isa},
                            {"numerics_id", info.numerics_id},
                            {"kv_format", backend::to_string(info.kv_format)},
                            {"read_gb_per_second", read},
                            {"int8_gmac_per_second", gmacs},
                            {"load_seconds", load_seconds},
                            {"repeat", flags.repeat},
                            {"results", results}}
                           .dump(2));
    return {};
  }
  fmt::print("{}: {}, {}, {} threads, {} ({}), KV {}; reads {:.1f} GB/s, int8 {:.0f} GMAC/s, loaded in {:.2f} s\n\n",
             flags.model, info.device, info.isa, info.threads, backend::to_string(info.precision), info.numerics_id,
             backend::to_string(info.kv_format), read, gmacs, load_seconds);
  fmt::print(
      "| test | depth | batch | tokens/s (slowest - fastest) | of this machine's limit |\n|---|---|---|---|---|\n");
  for (const auto& m : all)
    fmt::print("| {} | {} | {} | {:.2f} ({:.2f} - {:.2f}) | {} |\n", m.test, m.depth, m.batch, m.tokens_per_second,
               m.slowest, m.fastest,
               m.limit_gb > 0 ? fmt::format("{:.0f} % of {:.1f} GB/s", 100 * m.fraction, m.limit_gb)
               : gmacs > 0    ? fmt::format("{:.0f} % of {:.0f} GMAC/s", 100 * m.fraction, gmacs)
                              : std::string("-"));
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
  list("-p,--prompt", flags->prompt, "prompt tokens");
  list("-n,--generate", flags->generate, "generated tokens");
  list("-d,--depth", flags->depth, "tokens already in the context");
  command->add_option("-b,--batch", flags->batch, "sequences at once")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 64));
  command->add_option("-r,--repeat", flags->repeat, "timed runs of each test; the median counts")
      ->check(CLI::Range(1, 100));
  command->add_flag("--json", flags->json);
  flags->compute.add_to(*command);
  command->callback([&context, flags, command] {
    flags->compute.finish(*command);
    if (auto done = bench(context, *flags); !done.ok()) report(context, done.error());
  });
}

}  // namespace ponder::cli
