// step_bench: prefill and decode speed of a GGUF file on the CPU backend, without engine or tokenizer: random token ids
// through the plan. Prints tokens per second (median and best of some repeats) and where the time went.
//   step_bench MODEL.gguf [--threads N] [--precision standard|fast|exact] [--kv f16|f32] [--prompt 512] [--gen 128]
//              [--depth 0] [--batch 1] [--draws 1] [--repeat 3] [--clock wall|cpu]
// --draws N: the last N rows of a prompt draw a token (default options), as those of a replay do.
// The cpu clock with one thread gives usable figures on a machine that others use too.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/plan.h"
#include "base/os/memory.h"
#include "base/os/system.h"

namespace {

using namespace ponder;

struct Options {
  std::string path;
  backend::PlanOptions plan;
  int prompt = 512, gen = 128, depth = 0, batch = 1, draws = 1, repeat = 3;
};

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "step_bench: %s\n", message.c_str());
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

bool cpu_clock = false;  // set once by main

struct Random {
  uint64_t state = 1;
  int32_t token(int vocab) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return int32_t((state >> 33) % uint64_t(vocab));
  }
};

// Rows of one launch: `n` tokens for each sequence; the last `draws` rows of each draw.
double run(backend::Plan& plan, std::vector<backend::SequenceState*> sequences, int n, int draws, Random& random) {
  static const sample::Params params;
  const sample::Request request{&params};
  backend::Batch batch;
  for (auto* s : sequences) {
    must(s->reserve(n));
    for (int i = 0; i < n; ++i) {
      backend::Row row;
      row.sequence = s;
      row.token = random.token(plan.spec().vocab_size);
      row.position = s->length() + i;
      if (i >= n - draws) row.sampling = &request;
      batch.rows.push_back(row);
    }
  }
  const auto clock = cpu_clock ? os::cpu_seconds : os::monotonic_seconds;
  const double start = clock();
  must(plan.launch(batch, nullptr));
  must(plan.collect());
  return clock() - start;
}

double report(const char* what, std::vector<double> rates, const backend::cpu::PhaseTimes& times) {
  std::sort(rates.begin(), rates.end());
  std::printf("%-8s median %8.2f best %8.2f t/s |", what, rates[rates.size() / 2], rates.back());
  double total = 0;
  for (double s : times.seconds) total += s;
  for (size_t i = 0; i < size_t(backend::cpu::Phase::count); ++i)
    std::printf(" %s %.1f%%", backend::cpu::to_string(backend::cpu::Phase(i)), 100 * times.seconds[i] / total);
  std::printf("\n");
  std::fflush(stdout);
  return rates[rates.size() / 2];
}

Options parse(int argc, char** argv) {
  Options o;
  o.plan.kv_tokens = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.rfind("--", 0) != 0) {
      o.path = a;
      continue;
    }
    if (i + 1 >= argc) fail(a + " needs a value");
    const std::string v = argv[++i];
    if (a == "--threads")
      o.plan.threads = std::atoi(v.c_str());
    else if (a == "--prompt")
      o.prompt = std::atoi(v.c_str());
    else if (a == "--gen")
      o.gen = std::atoi(v.c_str());
    else if (a == "--depth")
      o.depth = std::atoi(v.c_str());
    else if (a == "--clock")
      cpu_clock = v == "cpu";
    else if (a == "--batch")
      o.batch = std::atoi(v.c_str());
    else if (a == "--draws")
      o.draws = std::atoi(v.c_str());
    else if (a == "--repeat")
      o.repeat = std::atoi(v.c_str());
    else if (a == "--precision") {
      const auto p = backend::parse_precision(v);
      if (!p) fail("unknown precision " + v);
      o.plan.precision = *p;
    } else if (a == "--kv") {
      const auto f = backend::parse_kv_format(v);
      if (!f) fail("unknown KV format " + v);
      o.plan.kv_format = *f;
    } else
      fail("unknown flag " + a);
  }
  if (o.path.empty()) fail("which model file?");
  o.plan.max_batch_rows = 512;
  o.plan.max_output_rows = std::max({o.plan.max_output_rows, o.batch, o.draws});
  o.plan.kv_tokens = int64_t(o.batch) * (std::max(o.prompt, o.gen + o.depth + 1) + 128) + 128;
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  const double start = os::monotonic_seconds();
  auto file = must(gguf::File::open(o.path));
  auto model = must(model::Model::load(file));
  auto plan = must(backend::cpu::make_backend()->compile(model, o.plan));
  must(plan->load({}, nullptr));
  const double loaded = os::monotonic_seconds();
  auto& cpu = static_cast<backend::cpu::CpuPlan&>(*plan);
  Random random;
  {
    auto s = plan->new_state();
    run(*plan, {s.get()}, 1, 1, random);
  }
  const auto& info = plan->info();
  const auto& memory = plan->memory_report();
  std::printf(
      "%s, %s, %s, %d threads, KV %s; load %.2f s, first token after %.2f s; weights %.1f MiB, scratch %.1f MiB, KV "
      "%.1f MiB, peak RSS %.1f MiB\n",
      info.device.c_str(), info.isa.c_str(), info.numerics_id.c_str(), info.threads, to_string(info.kv_format),
      loaded - start, os::monotonic_seconds() - start, double(memory.weights) / 1048576,
      double(memory.scratch) / 1048576, double(memory.kv_capacity) / 1048576,
      double(os::process_memory().peak) / 1048576);

  if (o.prompt > 0) {
    std::vector<double> rates;
    cpu.times() = {};
    for (int i = 0; i < o.repeat; ++i) {
      auto s = plan->new_state();
      double t = 0;
      for (int done = 0; done < o.prompt; done += 512) {
        const int n = std::min(512, o.prompt - done);
        t += run(*plan, {s.get()}, n, done + n == o.prompt ? std::min(n, o.draws) : 0, random);
      }
      rates.push_back(o.prompt / t);
    }
    report(("pp" + std::to_string(o.prompt)).c_str(), rates, cpu.times());
  }
  if (o.gen > 0) {
    std::vector<double> rates;
    std::vector<std::unique_ptr<backend::SequenceState>> states;
    std::vector<backend::SequenceState*> sequences;
    for (int b = 0; b < o.batch; ++b) {
      states.push_back(plan->new_state());
      sequences.push_back(states.back().get());
      for (int done = 0; done < o.depth; done += 512)
        run(*plan, {sequences.back()}, std::min(512, o.depth - done), 0, random);
    }
    cpu.times() = {};
    for (int i = 0; i < o.repeat; ++i) {
      for (auto* s : sequences) s->trim(o.depth);
      double t = 0;
      for (int k = 0; k < o.gen; ++k) t += run(*plan, sequences, 1, 1, random);
      rates.push_back(o.gen * o.batch / t);
    }
    const double rate = report(("tg" + std::to_string(o.gen)).c_str(), rates, cpu.times());
    const double bytes = double(info.bytes_per_token);
    std::printf("         %.2f GB/s of weights at the median\n", bytes * rate / o.batch * 1e-9);
  }
}
