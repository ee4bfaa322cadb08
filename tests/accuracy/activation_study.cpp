// What an activation format costs in accuracy: the float64 judge with its products' inputs rounded, against the same judge
// without. The only difference between the two is the rounding, so the figures are the format's own.
//
//   activation_study MODEL.gguf [TOKENS]
//
// Beside the formats stand the real backends, with everything else that they round (K and V as f16, sums in float32).
// The text is what the model itself writes at temperature 1 after its first token, in windows of 256. The figures behind
// docs/decisions/cuda-activations.md.
#include <cstdio>
#include <cstdlib>

#include "accuracy/comparison.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/reference/reference.h"
#if PONDER_HAVE_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

namespace {

using namespace ponder;
using namespace ponder::backend;

constexpr int kWindow = 256;

template <class T>
T or_exit(Result<T> result) {
  if (result.ok()) return std::move(*result);
  std::fprintf(stderr, "activation_study: %s\n", result.error().message.c_str());
  std::exit(1);
}
void or_exit(Result<void> result) {
  if (result.ok()) return;
  std::fprintf(stderr, "activation_study: %s\n", result.error().message.c_str());
  std::exit(1);
}

/// Integers up to `limit` with one scale per `group` numbers (a shorter last group).
void round_groups(std::span<float> x, size_t group, float limit) {
  for (size_t first = 0; first < x.size(); first += group) {
    const auto part = x.subspan(first, std::min(group, x.size() - first));
    float largest = 0;
    for (float v : part) largest = std::max(largest, std::abs(v));
    if (largest == 0) continue;
    const float scale = largest / limit, inverse = limit / largest;
    for (float& v : part) v = std::rint(v * inverse) * scale;
  }
}

/// The CPU's `standard`: int8 per 32, and per 256 a second int8 rounding of what is left in the block that lost most.
void round_residual(std::span<float> x) {
  for (size_t first = 0; first < x.size(); first += 256) {
    const auto part = x.subspan(first, std::min<size_t>(256, x.size() - first));
    const std::vector<float> before(part.begin(), part.end());
    round_groups(part, 32, 127);
    size_t worst = 0;
    float most = -1;
    for (size_t b = 0; b < part.size(); b += 32) {
      float largest = 0;
      for (size_t i = b; i < std::min(part.size(), b + 32); ++i) largest = std::max(largest, std::abs(before[i]));
      if (largest > most) most = largest, worst = b;
    }
    std::vector<float> rest;
    for (size_t i = worst; i < std::min(part.size(), worst + 32); ++i) rest.push_back(before[i] - part[i]);
    round_groups(rest, 32, 127);
    for (size_t i = 0; i < rest.size(); ++i) part[worst + i] += rest[i];
  }
}

struct Candidate {
  const char* name;
  reference::Rounding rounding;
  std::unique_ptr<Plan> plan = nullptr;
  testing::Comparison comparison = {};
};

std::unique_ptr<Plan> make_plan(const std::shared_ptr<const model::Model>& model, Backend& backend, KvFormat kv) {
  PlanOptions options;
  options.kv_format = kv;
  options.kv_tokens = options.max_batch_rows = options.max_output_rows = kWindow;
  auto plan = or_exit(backend.compile(model, options));
  or_exit(plan->load({}, nullptr));
  return plan;
}

/// A window of the model's own text, sequence number `n`; its logits go to `logits`.
std::vector<TokenId> write_window(Plan& judge, int n, std::vector<float>& logits) {
  sample::Params params;
  params.temperature = 1;
  params.top_k = 0;
  params.top_p = 1;
  params.seed = uint64_t(n);
  const size_t vocab = size_t(judge.spec().vocab_size);
  logits.resize(size_t(kWindow) * vocab);
  auto sequence = judge.new_state();
  std::vector<TokenId> ids{TokenId(n + 1)};
  for (int p = 0; p < kWindow; ++p) {
    sample::Request request;
    request.params = &params;
    request.position = uint32_t(p + 1);
    or_exit(sequence->reserve(1));
    Batch batch;
    batch.rows.push_back({sequence.get(), ids.back(), p, &request, true});
    or_exit(judge.launch(batch, nullptr));
    const auto results = or_exit(judge.collect());
    std::copy(results[0].logits.begin(), results[0].logits.end(), logits.begin() + long(size_t(p) * vocab));
    if (p + 1 < kWindow) ids.push_back(results[0].sampled.token);
  }
  return ids;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "usage: activation_study MODEL.gguf [TOKENS]\n"), 2;
  const int tokens = argc > 2 ? std::atoi(argv[2]) : 1024;
  const auto model = or_exit(testing::load_model(argv[1]));
  const auto groups = [](size_t group, float limit) {
    return [=](std::span<float> x) { round_groups(x, group, limit); };
  };
  std::vector<Candidate> candidates;
  candidates.push_back({"int8 per 32", groups(32, 127)});
  candidates.push_back({"int8 per 128", groups(128, 127)});
  candidates.push_back({"int8 per 256", groups(256, 127)});
  candidates.push_back({"int8 per 32 + residual", round_residual});
  candidates.push_back({"10 bits per 256", groups(256, 511)});
  candidates.push_back({"12 bits per 256", groups(256, 2047)});
  candidates.push_back({"14 bits per 256", groups(256, 8191)});
  auto judge = make_plan(model, *reference::make_backend(), KvFormat::f32);
  for (Candidate& c : candidates) c.plan = make_plan(model, *reference::make_backend(c.rounding), KvFormat::f32);
  candidates.push_back({"cpu, standard", {}, make_plan(model, *cpu::make_backend(), KvFormat::f16)});
#if PONDER_HAVE_CUDA
  if (auto card = cuda::make_backend(); card.ok())
    candidates.push_back({"cuda, standard", {}, make_plan(model, **card, KvFormat::f16)});
#endif
  const size_t vocab = size_t(model->spec.vocab_size);
  std::vector<float> expected;
  for (int n = 0; n * kWindow < tokens; ++n) {
    const auto ids = write_window(*judge, n, expected);
    for (Candidate& c : candidates)
      or_exit(testing::run_window(*c.plan, ids, {}, kWindow, [&](int position, std::span<const float> logits) {
        c.comparison.add(std::span<const float>(&expected[size_t(position) * vocab], vocab), logits);
      }));
  }
  std::printf("%s, %d tokens\n  %-24s %10s %10s %8s %12s\n", argv[1], tokens, "", "KL 99 %", "mean KL", "top-1",
              "relative L2");
  for (const Candidate& c : candidates) {
    const auto f = c.comparison.figures();
    std::printf("  %-24s %10.2e %10.2e %8.4f %12.2e\n", c.name, f.kl_trimmed, f.kl_mean, f.top1, f.relative_l2);
  }
  return 0;
}
