// card_bench: `ponder bench` for machines where only the core can be built (PONDER_CORE_ONLY): a GGUF file on the NVIDIA
// backend, by the same measuring code, as a table.
//
//   card_bench MODEL.gguf [--cases pp512,tg128,tg128@8192,tg128x16] [--repeat 3] [--sampled 1] [--chunk 512] [--kv f16|q8]
//              [--gpu-memory BYTES] [--gpu-layers N]
// A case is a prompt (pp) or an answer (tg), @ the depth, x the sequences; without --cases those of `ponder bench --full`.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "backend/cpu/front.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/driver/nvml.h"
#include "backend/cuda/measure.h"
#include "base/os/memory.h"
#include "base/os/system.h"
#include "engine/bench.h"

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

std::vector<engine::BenchCase> cases_of(const std::string& text) {
  std::vector<engine::BenchCase> cases;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    engine::BenchCase c{.prompt = part.rfind("pp", 0) == 0};
    if (part.size() < 3 || (!c.prompt && part.rfind("tg", 0) != 0))
      fail("a case is pp512, tg128, tg128@8192, tg128x16");
    c.n = std::atoi(part.c_str() + 2);
    if (const size_t at = part.find('@'); at != std::string::npos) c.depth = std::atoi(part.c_str() + at + 1);
    if (const size_t x = part.find('x'); x != std::string::npos) c.batch = std::max(1, std::atoi(part.c_str() + x + 1));
    cases.push_back(c);
  }
  return cases;
}

}  // namespace

int main(int argc, char** argv) {
  std::string path;
  std::vector<engine::BenchCase> cases = engine::full_bench();
  engine::BenchOptions options;
  backend::PlanOptions po;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.rfind("--", 0) != 0) {
      path = flag;
      continue;
    }
    if (i + 1 >= argc) fail(flag + " needs a value");
    const std::string value = argv[++i];
    if (flag == "--cases") {
      cases = cases_of(value);
    } else if (flag == "--repeat") {
      options.repeat = std::max(1, std::atoi(value.c_str()));
    } else if (flag == "--sampled") {
      options.sampled = value == "1";
    } else if (flag == "--chunk") {
      options.chunk = std::max(1, std::atoi(value.c_str()));
    } else if (flag == "--kv") {
      const auto format = backend::parse_kv_format(value);
      if (!format) fail("unknown KV format " + value);
      po.kv_format = *format;
    } else if (flag == "--gpu-memory") {
      po.gpu_memory = std::strtoull(value.c_str(), nullptr, 10);
    } else if (flag == "--gpu-layers") {
      po.gpu_layers = std::atoi(value.c_str());
    } else {
      fail("unknown flag " + flag);
    }
  }
  if (path.empty()) fail("which model file?");
  po.max_batch_rows = options.chunk;
  po.kv_tokens = engine::bench_kv_tokens(cases);
  po.max_output_rows = std::max(32, engine::bench_sequences(cases));

  auto backend = must(backend::cuda::make_backend(backend::cpu::make_front_layers));
  const auto before = backend::cuda::memory_in_use(0);
  const double start = os::monotonic_seconds();
  auto plan = must(backend->compile(must(model::Model::load(must(gguf::File::open(path)))), po));
  must(plan->load({}, nullptr));
  const double load = os::monotonic_seconds() - start;
  const auto& info = plan->info();
  const int card = info.cards.front();
  engine::BenchMeters meters{os::monotonic_seconds, os::cpu_seconds, {}, {}};
  meters.read_bandwidth = [card] { return must(backend::cuda::read_bandwidth(card)); };
  meters.joules = [card]() -> std::optional<double> {
    const auto used = backend::cuda::energy_millijoules(card);
    return used ? std::optional<double>(double(*used) * 1e-3) : std::nullopt;
  };
  std::printf("%s, %s, %s, KV %s%s%s; reads %.0f GB/s, loaded in %.2f s\n\n%s", info.device.c_str(), info.isa.c_str(),
              info.numerics_id.c_str(), to_string(info.kv_format), info.placement.empty() ? "" : "; ",
              info.placement.c_str(), meters.read_bandwidth() * 1e-9, load, engine::bench_table_head().c_str());
  engine::Bench bench(*plan, meters, options);
  for (const engine::BenchCase& c : cases) {
    std::printf("%s", engine::bench_table_row(must(bench.measure(c, nullptr)), options).c_str());
    std::fflush(stdout);
  }
  const auto after = backend::cuda::memory_in_use(0);
  std::printf(
      "\nweights %.0f MB, work space %.0f MB, KV %.1f KB per token; card's memory grew by %.0f MB; resident %.0f MB\n",
      double(plan->memory_report().weights) / 1e6, double(plan->memory_report().scratch) / 1e6,
      double(plan->memory_report().kv_per_token) / 1e3, double(after.value_or(0) - before.value_or(0)) / 1e6,
      double(os::process_memory().resident) / 1e6);
  return 0;
}
