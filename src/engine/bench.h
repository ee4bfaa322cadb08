// How fast a plan is: the one measuring code of `ponder bench`, for every backend. Random token ids go through the plan;
// clocks and meters are handed in, so that tests can play them and the command line can read those of card or processor.
#pragma once

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace ponder::engine {

/// What is read beside the work. Only the clocks are always there.
struct BenchMeters {
  std::function<double()> now;          ///< seconds
  std::function<double()> cpu_seconds;  ///< processor time of this process
  /// Bytes per second that the device reads when it does nothing else, measured by the call; 0 where that failed.
  std::function<double()> read_bandwidth;
  /// A counter of the energy that the device has used; nothing where nobody tells.
  std::function<std::optional<double>()> joules;
};

/// One thing to measure: `n` tokens of prompt or of answer after `depth` tokens, `batch` sequences at once. `drafts`: each
/// step of an answer has so many tokens more, as if all of them had been drafted rightly.
struct BenchCase {
  bool prompt = false;
  int n = 0, depth = 0, batch = 1, drafts = 0;
  bool operator==(const BenchCase&) const = default;
};

struct BenchResult {
  BenchCase what;
  std::string test = {};  ///< "pp512", "tg128", "tg128+3" (with drafts)
  double tokens_per_second = 0, slowest = 0, fastest = 0;
  /// Prompts: from the first launch to the first sequence's drawn token. Answers: one step.
  double seconds = 0;
  double host_cores = 0;                        ///< processor seconds per second
  std::optional<double> joules_per_token = {};  ///< of all sequences together
  double fraction = 0;                          ///< of the device's limit, 0 where that is unknown
  double read_bandwidth = 0;                    ///< answers: the mean of before and after each run, their median
};

struct BenchOptions {
  int repeat = 3;        ///< timed runs; the median counts
  double peak_macs = 0;  ///< multiply-adds per second that bound prompts; 0: unknown
  bool sampled = false;  ///< draw at temperature 0.6, top-p 0.95 instead of greedily
  int chunk = 512;       ///< rows of a prompt's launch
};

/// The cases of `ponder bench --full`: prompts and depths of one sequence, then batches.
std::vector<BenchCase> full_bench();
/// Tokens of KV cache that the largest case takes.
int64_t bench_kv_tokens(const std::vector<BenchCase>& cases);
/// Rows that draw in a step of the largest case.
int bench_sequences(const std::vector<BenchCase>& cases);

class Bench {
 public:
  Bench(backend::Plan& plan, const BenchMeters& meters, const BenchOptions& options);
  /// Measures one case. `stop` gives up (code cancelled).
  Result<BenchResult> measure(const BenchCase& what, const backend::StopFlag* stop);

 private:
  using States = std::vector<std::unique_ptr<backend::SequenceState>>;
  /// `n` more tokens of each sequence, one sequence after the other; `first`: seconds until the first one's token.
  Result<void> prefill(States& states, int n, double* first, const backend::StopFlag* stop);
  Result<void> decode(States& states, int steps, int drafts, const backend::StopFlag* stop);
  Result<void> run(backend::Batch& batch, const backend::StopFlag* stop);
  backend::Row row(backend::SequenceState& state, int position, bool draw);

  backend::Plan& plan_;
  const BenchMeters meters_;
  const BenchOptions options_;
  sample::Params params_;
  sample::Request request_;
  std::mt19937 random_{1};
};

/// A table for people; `limit` of a row is a fraction of read bandwidth or of peak_macs.
std::string bench_table_head();
std::string bench_table_row(const BenchResult& result, const BenchOptions& options);

}  // namespace ponder::engine
