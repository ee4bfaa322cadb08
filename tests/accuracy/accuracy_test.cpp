// The gate "right": logits of the CPU backend, and of an NVIDIA card where there is one, against the reference backend on
// real models, the same ids, windows of 256 tokens, held against what llama.cpp reaches (tests/golden/accuracy, made by
// tools/make-golden/peer_kl.py).
//
//   accuracy_test [--tokens N] [--threads N] [--model NAME]... [--f16 IN.gguf]... [--any IN.gguf]... [--gpu-memory BYTES]
//
// --any takes a file without recorded figures (a synthetic one): its judge is how far the CPU's `standard` is from the
// reference; a model split over card and CPU (--gpu-memory, else half the layers) may be no farther.
// N is 512 in `make test`, 2048 in `make verify`. --f16 gives a file of F16 weights (tools/synth --convert) that has to
// match its own reference: 1e-4 with f32 KV, 2e-3 with f16 KV. Prints a table; exit status 1 if a gate fails.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "accuracy/comparison.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/front.h"
#if PONDER_HAVE_CUDA
#include "backend/cuda/cuda_backend.h"
#endif
#include "backend/reference/reference.h"
#include "backend/testing.h"

namespace {

using namespace ponder;
using namespace ponder::backend;
using nlohmann::json;
using testing::Comparison;
using testing::Figures;

constexpr int kWindow = 256;

struct Candidate {
  std::string name;
  Precision precision;
  KvFormat kv;
  bool card = false;
  int gpu_layers = -1;
  uint64_t gpu_memory = 0;
  std::unique_ptr<Plan> plan = nullptr;
  Comparison comparison = {};
};

int g_failures = 0;

void fail(const std::string& what) {
  std::printf("  FAILED: %s\n", what.c_str());
  ++g_failures;
}

template <class T>
T or_exit(Result<T> result) {
  if (result.ok()) return std::move(*result);
  std::fprintf(stderr, "accuracy_test: %s\n", result.error().message.c_str());
  std::exit(1);
}
void or_exit(Result<void> result) {
  if (result.ok()) return;
  std::fprintf(stderr, "accuracy_test: %s\n", result.error().message.c_str());
  std::exit(1);
}

/// The card's backend; null on machines without one.
Backend* card() {
#if PONDER_HAVE_CUDA
  static auto backend = cuda::make_backend(cpu::make_front_layers);
  return backend.ok() ? backend->get() : nullptr;
#else
  return nullptr;
#endif
}

std::unique_ptr<Plan> make_plan(Backend& backend, std::shared_ptr<const model::Model> model, const Candidate& c,
                                int threads) {
  PlanOptions options;
  options.threads = threads;
  options.precision = c.precision;
  options.kv_format = c.kv;
  options.gpu_layers = c.gpu_layers;
  options.gpu_memory = c.gpu_memory;
  options.kv_tokens = kWindow;
  options.max_batch_rows = options.max_output_rows = kWindow;
  auto plan = or_exit(backend.compile(std::move(model), options));
  or_exit(plan->load({}, nullptr));
  return plan;
}

/// Runs reference and candidates over the ids; each candidate's comparison is filled.
void compare(const std::shared_ptr<const model::Model>& model, std::span<const TokenId> ids, int threads,
             std::vector<Candidate>& candidates) {
  auto judge = make_plan(*reference::make_backend(), model, {"", Precision::exact, KvFormat::f32}, threads);
  const auto processor = cpu::make_backend();
  for (Candidate& c : candidates) c.plan = make_plan(c.card ? *card() : *processor, model, c, threads);
  const size_t vocab = size_t(model->spec.vocab_size);
  std::vector<float> expected(size_t(kWindow) * vocab);
  const auto row = [&](int position) { return std::span<float>(&expected[size_t(position) * vocab], vocab); };
  double seconds[2] = {};
  for (size_t first = 0; first < ids.size(); first += kWindow) {
    const auto window = ids.subspan(first, std::min(size_t(kWindow), ids.size() - first));
    double start = os::monotonic_seconds();
    or_exit(testing::run_window(*judge, window, {}, kWindow, [&](int position, std::span<const float> logits) {
      std::copy(logits.begin(), logits.end(), row(position).begin());
    }));
    seconds[0] += os::monotonic_seconds() - start, start = os::monotonic_seconds();
    for (Candidate& c : candidates) {
      or_exit(testing::run_window(*c.plan, window, {}, kWindow, [&](int position, std::span<const float> logits) {
        c.comparison.add(row(position), logits);
      }));
    }
    seconds[1] += os::monotonic_seconds() - start;
  }
  std::printf("  reference %.1f s, candidates and comparison %.1f s, %s %s\n", seconds[0], seconds[1],
              candidates[0].plan->info().numerics_id.c_str(), candidates[0].plan->info().isa.c_str());
  for (const Candidate& c : candidates)
    if (c.card)
      std::printf("  %s: %s, %s%s%s\n", c.name.c_str(), c.plan->info().device.c_str(),
                  c.plan->info().numerics_id.c_str(), c.plan->info().placement.empty() ? "" : ", ",
                  c.plan->info().placement.c_str());
}

void print(const std::string& name, const Figures& f) {
  std::printf("  %-22s %10.2e %10.2e %8.4f %12.2e\n", name.c_str(), f.kl_trimmed, f.kl_mean, f.top1, f.relative_l2);
}
void print_header() { std::printf("  %-22s %10s %10s %8s %12s\n", "", "KL 99 %", "mean KL", "top-1", "relative L2"); }

void check_below(const std::string& what, double value, double limit) {
  char text[160];
  std::snprintf(text, sizeof text, "%s: %.3e, the limit is %.3e", what.c_str(), value, limit);
  if (!(value <= limit)) fail(text);
}

void check_real_model(const std::string& name, int tokens, int threads) {
  std::ifstream in(PONDER_SOURCE_DIR "/tests/golden/accuracy/" + name + ".json");
  const json golden = json::parse(in);
  const auto ids = golden.at("ids").get<std::vector<TokenId>>();
  const json peer = golden.at("figures").value(std::to_string(tokens), json());
  if (peer.is_null()) return fail("no figures of the peer for " + std::to_string(tokens) + " tokens of " + name);
  const auto model = or_exit(testing::load_model(testing::model_cache() + "/" + name + ".gguf"));
  std::printf("%s, %d tokens in windows of %d, against the float64 reference with f32 KV\n", name.c_str(), tokens,
              kWindow);
  std::vector<Candidate> candidates;
  candidates.push_back({"standard", Precision::standard, KvFormat::f16});
  candidates.push_back({"fast", Precision::fast, KvFormat::f16});
  candidates.push_back({"exact", Precision::exact, KvFormat::f16});
  candidates.push_back({"exact, f32 KV", Precision::exact, KvFormat::f32});
  candidates.push_back({"exact, q8 KV", Precision::exact, KvFormat::q8});
  candidates.push_back({"standard, q8 KV", Precision::standard, KvFormat::q8});
  if (card() != nullptr) {
    candidates.push_back({"card", Precision::standard, KvFormat::f16, true});
    candidates.push_back({"card, q8 KV", Precision::standard, KvFormat::q8, true});
    candidates.push_back({"card and CPU", Precision::standard, KvFormat::f16, true, model->spec.n_layers / 2});
  }
  compare(model, std::span(ids).first(size_t(tokens)), threads, candidates);
  const Figures theirs{peer.at("kl_trimmed"), peer.at("kl_mean"), peer.at("relative_l2"), peer.at("top1")};
  print_header();
  print("llama.cpp (recorded)", theirs);
  for (const Candidate& c : candidates) print(c.name, c.comparison.figures());
  for (const Candidate& c : candidates) {
    if (c.precision != Precision::standard || c.kv != KvFormat::f16) continue;
    const Figures f = c.comparison.figures();
    check_below(name + ", " + c.name + ": KL without the worst 1 %", f.kl_trimmed, 0.5 * theirs.kl_trimmed);
    check_below(name + ", " + c.name + ": relative L2", f.relative_l2, theirs.relative_l2);
    check_below(name + ", " + c.name + ": top-1 disagreement", 1 - f.top1, 1 - theirs.top1 + 0.005);
  }
  check_below(name + ", exact: relative L2", candidates[2].comparison.figures().relative_l2, 2e-3);
  check_below(name + ", exact with f32 KV: relative L2", candidates[3].comparison.figures().relative_l2, 1e-4);
  check_below(name + ", q8 KV: KL without the worst 1 %", candidates[4].comparison.figures().kl_trimmed, 5e-4);
  // The card has no `exact`: what its q8 costs beside its f16 is held to the same gate.
  if (card() != nullptr)
    check_below(name + ", card, q8 KV: KL without the worst 1 % beyond that of f16",
                candidates[7].comparison.figures().kl_trimmed - candidates[6].comparison.figures().kl_trimmed, 5e-4);
}

void check_any_file(const std::string& path, int tokens, int threads, uint64_t gpu_memory) {
  const auto model = or_exit(testing::load_model(path));
  std::vector<TokenId> ids;
  for (int i = 0; i < tokens; ++i)
    ids.push_back(TokenId(uint64_t(i + 1) * 2654435761u % uint64_t(model->spec.vocab_size)));
  std::printf("%s (%s), %d tokens\n", path.c_str(), model::quantization_name(*model->file).c_str(), tokens);
  std::vector<Candidate> candidates;
  candidates.push_back({"standard", Precision::standard, KvFormat::f16});
  if (card() != nullptr) {
    candidates.push_back({"card", Precision::standard, KvFormat::f16, true});
    candidates.push_back({"card, q8 KV", Precision::standard, KvFormat::q8, true});
    candidates.push_back({"card and CPU", Precision::standard, KvFormat::f16, true,
                          gpu_memory > 0 ? -1 : model->spec.n_layers / 2, gpu_memory});
  }
  compare(model, ids, threads, candidates);
  print_header();
  for (const Candidate& c : candidates) print(c.name, c.comparison.figures());
  const Figures ours = candidates[0].comparison.figures();
  for (const Candidate& c : candidates) {
    if (!c.card || c.kv != KvFormat::f16) continue;
    check_below(path + ", " + c.name + ": relative L2", c.comparison.figures().relative_l2, ours.relative_l2);
    check_below(path + ", " + c.name + ": mean KL", c.comparison.figures().kl_mean, ours.kl_mean);
  }
}

void check_f16_file(const std::string& path, int tokens, int threads) {
  const auto model = or_exit(testing::load_model(path));
  // Any text will do: these ids are a prefix of the technical text for smollm2, and plain numbers for the others.
  std::ifstream in(PONDER_SOURCE_DIR "/tests/golden/accuracy/" +
                   std::string(model->spec.architecture == "llama" ? "smollm2" : "qwen-0.5b") + ".json");
  auto ids = json::parse(in).at("ids").get<std::vector<TokenId>>();
  for (TokenId& id : ids) id %= model->spec.vocab_size;
  std::printf("%s (%s), %d tokens\n", path.c_str(), model::quantization_name(*model->file).c_str(), tokens);
  std::vector<Candidate> candidates;
  candidates.push_back({"standard, f32 KV", Precision::standard, KvFormat::f32});
  candidates.push_back({"standard, f16 KV", Precision::standard, KvFormat::f16});
  compare(model, std::span(ids).first(size_t(tokens)), threads, candidates);
  print_header();
  for (const Candidate& c : candidates) print(c.name, c.comparison.figures());
  check_below(path + ", f32 KV: relative L2", candidates[0].comparison.figures().relative_l2, 1e-4);
  check_below(path + ", f16 KV: relative L2", candidates[1].comparison.figures().relative_l2, 2e-3);
}

}  // namespace

int main(int argc, char** argv) {
  int tokens = 512, threads = 0;
  uint64_t gpu_memory = 0;
  std::vector<std::string> models, f16_files, any_files;
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (value.empty()) return std::fprintf(stderr, "accuracy_test: %s needs a value\n", flag.c_str()), 2;
    if (flag == "--tokens") {
      tokens = std::atoi(value.c_str());
    } else if (flag == "--threads") {
      threads = std::atoi(value.c_str());
    } else if (flag == "--model") {
      models.push_back(value);
    } else if (flag == "--f16") {
      f16_files.push_back(value);
    } else if (flag == "--any") {
      any_files.push_back(value);
    } else if (flag == "--gpu-memory") {
      gpu_memory = std::strtoull(value.c_str(), nullptr, 10);
    } else {
      return std::fprintf(stderr, "accuracy_test: unknown flag %s\n", flag.c_str()), 2;
    }
  }
  if (models.empty() && f16_files.empty() && any_files.empty()) models = {"smollm2", "qwen-0.5b"};
  for (const auto& name : models) check_real_model(name, tokens, threads);
  for (const auto& path : f16_files) check_f16_file(path, std::min(tokens, 2048), threads);
  for (const auto& path : any_files) check_any_file(path, tokens, threads, gpu_memory);
  std::printf(g_failures == 0 ? "all gates passed\n" : "%d gates failed\n", g_failures);
  return g_failures == 0 ? 0 : 1;
}
