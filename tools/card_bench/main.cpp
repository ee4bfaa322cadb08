// card_bench: how fast a GGUF file runs on the NVIDIA backend, without engine or tokenizer: random token ids through the
// plan. First what the card's memory can deliver, then decode at depths and batch sizes, prefill, time to the first token,
// load, memory, host processor and energy. A table for people (markdown), or --json.
//
//   card_bench MODEL.gguf [--gen 128] [--depths 0,8192,32768] [--batches 1,2,4,8,16] [--prompts 512,2048] [--repeat 3]
//              [--sampled 1] [--chunk 512] [--gpu-memory BYTES] [--gpu-layers N] [--json 1]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "backend/cpu/front.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/driver/nvml.h"
#include "backend/cuda/measure.h"
#include "base/os/memory.h"
#include "base/os/system.h"

namespace {

using namespace ponder;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "card_bench: %s\n", message.c_str());
  std::exit(1);
}
template <class T>
T must(Result<T> r) {
  if (!r.ok()) fail(r.error().message);
  return std::move(r).value();
}
void must(Result<void> r) {
  if (!r.ok()) fail(r.error().message);
}

struct Options {
  std::string path;
  int gen = 128, repeat = 3, chunk = 512;
  std::vector<int> depths{0, 8192, 32768}, batches{1, 2, 4, 8, 16}, prompts{512, 2048};
  bool sampled = false, json = false;
  uint64_t gpu_memory = 0;
  int gpu_layers = -1;
};

std::vector<int> numbers(const std::string& text) {
  std::vector<int> out;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');)
    if (!part.empty()) out.push_back(std::atoi(part.c_str()));
  return out;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.rfind("--", 0) != 0) {
      o.path = a;
      continue;
    }
    if (i + 1 >= argc) fail(a + " needs a value");
    const std::string v = argv[++i];
    if (a == "--gen")
      o.gen = std::atoi(v.c_str());
    else if (a == "--repeat")
      o.repeat = std::max(1, std::atoi(v.c_str()));
    else if (a == "--chunk")
      o.chunk = std::atoi(v.c_str());
    else if (a == "--depths")
      o.depths = numbers(v);
    else if (a == "--batches")
      o.batches = numbers(v);
    else if (a == "--prompts")
      o.prompts = numbers(v);
    else if (a == "--sampled")
      o.sampled = v == "1";
    else if (a == "--json")
      o.json = v == "1";
    else if (a == "--gpu-memory")
      o.gpu_memory = std::strtoull(v.c_str(), nullptr, 10);
    else if (a == "--gpu-layers")
      o.gpu_layers = std::atoi(v.c_str());
    else
      fail("unknown flag " + a);
  }
  if (o.path.empty()) fail("which model file?");
  return o;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

class Bench {
 public:
  Bench(const Options& o, backend::Plan& plan) : options_(o), plan_(plan) {
    params_.temperature = o.sampled ? 0.6f : 0.f;
    params_.top_p = 0.95f;
    params_.top_k = o.sampled ? 0 : 1;
    request_.params = &params_;
  }

  /// One launch: `n` rows for each sequence; the last row of each draws if `draw`.
  void step(const std::vector<backend::SequenceState*>& sequences, int n, bool draw) {
    backend::Batch batch;
    for (auto* s : sequences) {
      must(s->reserve(n));
      for (int i = 0; i < n; ++i) {
        state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
        backend::Row row;
        row.sequence = s;
        row.token = int32_t((state_ >> 33) % uint64_t(plan_.spec().vocab_size));
        row.position = s->length() + i;
        if (draw && i == n - 1) row.sampling = &request_;
        batch.rows.push_back(row);
      }
    }
    must(plan_.launch(batch, nullptr));
    (void)must(plan_.collect());
  }
  void fill(backend::SequenceState& s, int to) {
    while (s.length() < to) step({&s}, std::min(options_.chunk, to - s.length()), false);
  }

  struct Decode {
    double seconds = 0;  ///< of one step
    double host = 0;     ///< share of one core
    double joules = 0;   ///< per token; 0 where unknown
  };
  Decode decode(int depth, int batch) {
    std::vector<std::unique_ptr<backend::SequenceState>> states;
    std::vector<backend::SequenceState*> sequences;
    for (int b = 0; b < batch; ++b) {
      states.push_back(plan_.new_state());
      fill(*states.back(), depth);
      sequences.push_back(states.back().get());
    }
    Decode d;
    std::vector<double> times;
    for (int r = 0; r < options_.repeat; ++r) {
      for (auto* s : sequences) s->trim(depth);
      for (int k = 0; k < 4; ++k) step(sequences, 1, true);  // the graph, the clocks
      const auto before = backend::cuda::energy_millijoules(0);
      const double start = os::monotonic_seconds(), cpu = os::cpu_seconds();
      for (int k = 0; k < options_.gen; ++k) step(sequences, 1, true);
      const double took = os::monotonic_seconds() - start;
      const auto after = backend::cuda::energy_millijoules(0);
      times.push_back(took / options_.gen);
      d.host = (os::cpu_seconds() - cpu) / took;
      if (before && after) d.joules = double(*after - *before) / 1000 / options_.gen / batch;
    }
    d.seconds = median(times);
    return d;
  }
  double prefill(int n) {
    std::vector<double> times;
    for (int r = 0; r < options_.repeat + 1; ++r) {
      auto s = plan_.new_state();
      const double start = os::monotonic_seconds();
      while (s->length() < n) {
        const int rows = std::min(options_.chunk, n - s->length());
        step({s.get()}, rows, s->length() + rows == n);
      }
      if (r > 0) times.push_back(os::monotonic_seconds() - start);
    }
    return median(times);
  }

 private:
  const Options& options_;
  backend::Plan& plan_;
  sample::Params params_;
  sample::Request request_;
  uint64_t state_ = 1;
};

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  auto backend = must(backend::cuda::make_backend(backend::cpu::make_front_layers));
  size_t free_before = 0, free_after = 0, total = 0;
  const double bandwidth = must(backend::cuda::read_bandwidth());
  cudaMemGetInfo(&free_before, &total);
  const double start = os::monotonic_seconds();
  auto file = must(gguf::File::open(o.path));
  auto model = must(model::Model::load(file));
  backend::PlanOptions po;
  po.max_batch_rows = o.chunk;
  po.gpu_memory = o.gpu_memory;
  po.gpu_layers = o.gpu_layers;
  int64_t deepest = 0;
  for (int d : o.depths) deepest = std::max<int64_t>(deepest, d + o.gen + 128);
  for (int p : o.prompts) deepest = std::max<int64_t>(deepest, p + 128);
  int64_t widest = 1;
  for (int b : o.batches) widest = std::max<int64_t>(widest, b);
  po.kv_tokens = std::max(deepest, widest * (o.gen + 128)) + 256;
  auto plan = must(backend->compile(model, po));
  must(plan->load({}, nullptr));
  const double load = os::monotonic_seconds() - start;
  Bench bench(o, *plan);
  {
    auto s = plan->new_state();
    bench.fill(*s, 1);
  }
  cudaMemGetInfo(&free_after, &total);
  const auto& info = plan->info();
  const auto& memory = plan->memory_report();
  const double gb = 1e9, floor = double(info.bytes_per_token) / bandwidth;
  const double taken = double(free_before) - double(free_after);
  const double rest = taken - double(memory.weights);
  std::printf("%s, %s, %s%s%s\n\n", info.device.c_str(), info.isa.c_str(), info.numerics_id.c_str(),
              info.placement.empty() ? "" : ", ", info.placement.c_str());
  std::printf("| what | measured |\n|---|---|\n");
  std::printf("| read bandwidth | %.0f GB/s |\n| bytes per token | %.3f GB (floor %.3f ms, %.0f t/s) |\n",
              bandwidth / gb, double(info.bytes_per_token) / gb, floor * 1e3, 1 / floor);
  std::printf(
      "| load | %.2f s |\n| card memory | %.2f GB: weights %.2f, the rest %.0f MB (reported scratch %.0f MB, KV "
      "capacity %.0f MB) |\n",
      load, taken / gb, double(memory.weights) / gb, rest / 1e6, double(memory.scratch) / 1e6,
      double(memory.kv_capacity) / 1e6);
  std::fflush(stdout);
  std::string json;
  char line[256];
  for (int depth : o.depths) {
    const auto d = bench.decode(depth, 1);
    std::printf(
        "| tg%d at depth %d%s | %.1f t/s (%.3f ms, %.0f %% of bandwidth), host %.1f %% of a core, %.2f J per token |\n",
        o.gen, depth, o.sampled ? ", sampled" : "", 1 / d.seconds, d.seconds * 1e3, 100 * floor / d.seconds,
        100 * d.host, d.joules);
    std::fflush(stdout);
    std::snprintf(line, sizeof line, "%s\"tg%d_depth%d\": %.2f", json.empty() ? "" : ", ", o.gen, depth, 1 / d.seconds);
    json += line;
  }
  double one = 0;
  for (int batch : o.batches) {
    const auto d = bench.decode(0, batch);
    if (one == 0) one = d.seconds / (batch == 1 ? 1 : batch);
    std::printf("| batch %d | %.3f ms a step (%.2fx of one row), %.0f t/s in all, %.2f J per token |\n", batch,
                d.seconds * 1e3, d.seconds / one, batch / d.seconds, d.joules);
    std::fflush(stdout);
    std::snprintf(line, sizeof line, "%s\"step_ms_batch%d\": %.4f", json.empty() ? "" : ", ", batch, d.seconds * 1e3);
    json += line;
  }
  for (int n : o.prompts) {
    const double t = bench.prefill(n);
    std::printf("| pp%d | %.0f t/s, first token after %.1f ms |\n", n, n / t, t * 1e3);
    std::fflush(stdout);
    std::snprintf(line, sizeof line, "%s\"pp%d\": %.1f", json.empty() ? "" : ", ", n, n / t);
    json += line;
  }
  std::printf("| resident host memory | %.0f MB now, %.0f MB at most |\n", double(os::process_memory().resident) / 1e6,
              double(os::process_memory().peak) / 1e6);
  if (o.json)
    std::printf("{\"device\": \"%s\", \"read_gbs\": %.1f, \"load_s\": %.2f, %s}\n", info.device.c_str(), bandwidth / gb,
                load, json.c_str());
  return 0;
}
