#include "engine/bench.h"

#include <algorithm>
#include <cstdio>

namespace ponder::engine {
namespace {

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

template <class... Values>
std::string text(const char* format, Values... values) {
  char buffer[128];
  std::snprintf(buffer, sizeof buffer, format, values...);
  return buffer;
}

}  // namespace

std::vector<BenchCase> full_bench() {
  std::vector<BenchCase> cases;
  for (const int n : {512, 2048}) cases.push_back({.prompt = true, .n = n});
  for (const int depth : {0, 8192, 32768}) cases.push_back({.n = 128, .depth = depth});
  for (const int batch : {2, 4, 8, 16}) cases.push_back({.n = 128, .batch = batch});
  return cases;
}

int64_t bench_kv_tokens(const std::vector<BenchCase>& cases) {
  int64_t most = 0;
  for (const BenchCase& c : cases)
    most = std::max(most, int64_t(c.batch) * (c.depth + c.n + c.drafts + backend::kv::kPageTokens));
  return most;
}

int bench_sequences(const std::vector<BenchCase>& cases) {
  int most = 1;
  for (const BenchCase& c : cases) most = std::max(most, c.batch * (1 + c.drafts));
  return most;
}

Bench::Bench(backend::Plan& plan, const BenchMeters& meters, const BenchOptions& options)
    : plan_(plan), meters_(meters), options_(options) {
  params_.temperature = options.sampled ? 0.6f : 0.f;
  params_.top_p = 0.95f;
  params_.top_k = 0;
  request_.params = &params_;
}

backend::Row Bench::row(backend::SequenceState& state, int position, bool draw) {
  backend::Row r;
  r.sequence = &state;
  r.token = int32_t(random_() % uint32_t(plan_.spec().vocab_size));
  r.position = position;
  if (draw) r.sampling = &request_;
  return r;
}

Result<void> Bench::run(backend::Batch& batch, const backend::StopFlag* stop) {
  request_.position = uint32_t(batch.rows.back().position);
  PONDER_CHECK_OK(plan_.launch(batch, stop));
  PONDER_TRY([[maybe_unused]] const auto results, plan_.collect());
  return {};
}

Result<void> Bench::prefill(States& states, int n, double* first, const backend::StopFlag* stop) {
  const double start = meters_.now();
  *first = 0;
  for (auto& state : states) {
    for (int done = 0; done < n;) {
      const int rows = std::min(options_.chunk, n - done);
      PONDER_CHECK_OK(state->reserve(rows));
      backend::Batch batch;
      for (int i = 0; i < rows; ++i) batch.rows.push_back(row(*state, state->length() + i, done + i + 1 == n));
      PONDER_CHECK_OK(run(batch, stop));
      done += rows;
    }
    if (*first == 0) *first = meters_.now() - start;
  }
  return {};
}

Result<void> Bench::decode(States& states, int steps, int drafts, const backend::StopFlag* stop) {
  for (int step = 0; step < steps; ++step) {
    backend::Batch batch;
    for (auto& state : states) {
      PONDER_CHECK_OK(state->reserve(1 + drafts));
      for (int i = 0; i <= drafts; ++i) batch.rows.push_back(row(*state, state->length() + i, true));
    }
    PONDER_CHECK_OK(run(batch, stop));
  }
  return {};
}

Result<BenchResult> Bench::measure(const BenchCase& c, const backend::StopFlag* stop) {
  BenchResult m{.what = c, .test = (c.prompt ? "pp" : "tg") + std::to_string(c.n)};
  if (c.drafts > 0) m.test += "+" + std::to_string(c.drafts);
  const int steps = c.prompt ? c.n : std::max(1, c.n / (1 + c.drafts));
  States states;
  for (int b = 0; b < c.batch; ++b) states.push_back(plan_.new_state());
  double first = 0;
  if (c.depth > 0) PONDER_CHECK_OK(prefill(states, c.depth, &first, stop));
  const auto rewind = [&] {
    for (auto& state : states) state->trim(c.depth);
  };
  // The first run is a warm-up: pages, clocks and, on a card, the graph of such a step.
  if (c.prompt) {
    const bool card = plan_.info().gpu_layers > 0;
    PONDER_CHECK_OK(prefill(states, card ? c.n : std::min(c.n, 64), &first, stop));
  } else {
    PONDER_CHECK_OK(decode(states, std::min(steps, 4), c.drafts, stop));
  }

  std::vector<double> rates, firsts, reads;
  double worked = 0, processor = 0, energy = 0;
  bool energy_known = bool(meters_.joules);
  const bool reads_memory = !c.prompt && meters_.read_bandwidth;
  const double tokens = double(c.prompt ? c.n : steps * (1 + c.drafts)) * c.batch;
  for (int r = 0; r < options_.repeat; ++r) {
    rewind();
    const double read_before = reads_memory ? meters_.read_bandwidth() : 0;
    const auto joules = energy_known ? meters_.joules() : std::nullopt;
    const double start = meters_.now(), cpu = meters_.cpu_seconds();
    PONDER_CHECK_OK(c.prompt ? prefill(states, c.n, &first, stop) : decode(states, steps, c.drafts, stop));
    const double took = meters_.now() - start;
    processor += meters_.cpu_seconds() - cpu;
    const auto after = energy_known ? meters_.joules() : std::nullopt;
    energy_known = energy_known && joules && after && *after >= *joules;  // a counter that wrapped tells nothing
    if (energy_known) energy += *after - *joules;
    worked += took;
    rates.push_back(tokens / took);
    firsts.push_back(first);
    // Memory may change its speed within a run: the limit is the mean of a read before it and one after it.
    if (reads_memory) reads.push_back((read_before + meters_.read_bandwidth()) / 2);
  }
  m.tokens_per_second = median(rates);
  m.slowest = *std::min_element(rates.begin(), rates.end());
  m.fastest = *std::max_element(rates.begin(), rates.end());
  m.seconds = c.prompt ? median(firsts) : c.batch * (1 + c.drafts) / m.tokens_per_second;
  m.host_cores = worked > 0 ? processor / worked : 0;
  if (energy_known) m.joules_per_token = energy / (tokens * options_.repeat);
  if (c.prompt) {
    if (options_.peak_macs > 0)
      m.fraction = m.tokens_per_second * double(plan_.spec().linear_macs()) / options_.peak_macs;
  } else if (!reads.empty() && median(reads) > 0) {
    m.read_bandwidth = median(reads);
    const double kv = double(plan_.memory_report().kv_per_token) * (c.depth + c.n / 2.0) * c.batch;
    m.fraction = (double(plan_.info().bytes_per_token) + kv) / m.seconds / m.read_bandwidth;
  }
  return m;
}

std::string bench_table_head() {
  return "| test | depth | batch | tokens/s (slowest - fastest) | of this machine's limit | first token or step | "
         "cores busy | energy per token |\n|---|---|---|---|---|---|---|---|\n";
}

std::string bench_table_row(const BenchResult& m, const BenchOptions& options) {
  std::string limit = "-";
  if (m.fraction > 0 && m.what.prompt)
    limit = text("%.0f %% of %.0f GMAC/s", 100 * m.fraction, options.peak_macs * 1e-9);
  else if (m.fraction > 0)
    limit = text("%.0f %% of %.1f GB/s", 100 * m.fraction, m.read_bandwidth * 1e-9);
  return text("| %s | %d | %d | ", m.test.c_str(), m.what.depth, m.what.batch) +
         text("%.2f (%.2f - %.2f) | ", m.tokens_per_second, m.slowest, m.fastest) + limit +
         text(" | %.*f ms | %.2f | ", m.seconds < 0.01 ? 3 : 1, m.seconds * 1e3, m.host_cores) +
         (m.joules_per_token ? text("%.3g J", *m.joules_per_token) : std::string("not told")) + " |\n";
}

}  // namespace ponder::engine
