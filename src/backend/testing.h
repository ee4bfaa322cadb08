// For tests of every backend: golden logits (tests/golden/logits, made by
// tools/make-golden/logits.py with PyTorch), a window of tokens through a plan, and distances
// between logits. Header only; not part of any library.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/os/file.h"
#include "base/os/system.h"

namespace ponder::backend::testing {

/// Where the real test models are; a missing one is an Error that names the mend.
inline Result<std::shared_ptr<const model::Model>> load_model(const std::string& path) {
  auto file = gguf::File::open(path);
  if (!file.ok()) return file.error().with_context("run `make test-models`");
  return model::Model::load(*file);
}
inline std::string model_cache() {
  return os::env("PONDER_MODEL_CACHE").value_or(os::home_directory() + "/.cache/ponder-tests");
}

struct GoldenLogits {
  std::vector<TokenId> ids;
  struct Position {
    int position;
    std::vector<TokenId> tokens;
    std::vector<float> logits;  ///< of `tokens`
  };
  std::vector<Position> positions;
};

inline Result<GoldenLogits> read_golden(const std::string& path) {
  PONDER_TRY(const std::string bytes, os::read_file(path));
  size_t at = 4;
  bool good = bytes.substr(0, 4) == "PLG1";
  const auto take = [&](auto& out, size_t n) {
    const size_t size = n * 4;
    out.resize(n);
    if (!good || size > bytes.size() - at) return void(good = false);
    if (n > 0) std::memcpy(out.data(), bytes.data() + at, size);
    at += size;
  };
  const auto number = [&] {
    std::vector<int32_t> one;
    take(one, 1);
    if (one[0] < 0 || size_t(one[0]) > bytes.size()) good = false;
    return good ? one[0] : 0;
  };
  GoldenLogits golden;
  take(golden.ids, size_t(number()));
  golden.positions.resize(size_t(number()));
  for (auto& p : golden.positions) {
    p.position = number();
    const size_t n = size_t(number());
    take(p.tokens, n);
    take(p.logits, n);
  }
  if (!good || at != bytes.size()) return Error{ErrorCode::invalid_file, path + ": not a file of golden logits"};
  return golden;
}

/// Runs `ids` as one new sequence, in chunks of at most `chunk` rows, and hands the logits of each
/// position in `wanted` (ascending; empty: of all) to `sink`.
inline Result<void> run_window(Plan& plan, std::span<const TokenId> ids, std::span<const int> wanted, int chunk,
                               const std::function<void(int, std::span<const float>)>& sink) {
  auto sequence = plan.new_state();
  size_t next = 0;
  for (int first = 0; first < int(ids.size()); first += chunk) {
    const int n = std::min(chunk, int(ids.size()) - first);
    PONDER_CHECK_OK(sequence->reserve(n));
    Batch batch;
    for (int p = first; p < first + n; ++p) {
      const bool want = wanted.empty() || (next < wanted.size() && wanted[next] == p);
      next += want;
      batch.rows.push_back({.sequence = sequence.get(), .token = ids[size_t(p)], .position = p, .want_logits = want});
    }
    PONDER_CHECK_OK(plan.launch(batch, nullptr));
    PONDER_TRY(const auto results, plan.collect());
    for (int i = 0; i < n; ++i)
      if (batch.rows[size_t(i)].want_logits) sink(first + i, results[size_t(i)].logits);
  }
  return {};
}

/// sqrt(sum (a - b)^2 / sum b^2) of values centred by their own means: what softmax sees (it
/// ignores a constant).
struct RelativeL2 {
  double difference = 0, reference = 0;
  void add(std::span<const float> a, std::span<const float> b) {
    double mean_a = 0, mean_b = 0;
    for (size_t i = 0; i < a.size(); ++i) mean_a += a[i], mean_b += b[i];
    mean_a /= double(a.size()), mean_b /= double(b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      const double x = a[i] - mean_a, y = b[i] - mean_b;
      difference += (x - y) * (x - y), reference += y * y;
    }
  }
  double value() const { return std::sqrt(difference / reference); }
};

/// Distance of a plan's logits from golden ones, over all their positions.
inline Result<double> golden_distance(Plan& plan, const GoldenLogits& golden, int chunk) {
  std::vector<int> wanted;
  for (const auto& p : golden.positions) wanted.push_back(p.position);
  RelativeL2 distance;
  size_t next = 0;
  PONDER_CHECK_OK(run_window(plan, golden.ids, wanted, chunk, [&](int, std::span<const float> logits) {
    const auto& p = golden.positions[next++];
    std::vector<float> ours;
    for (const TokenId token : p.tokens) ours.push_back(logits[size_t(token)]);
    distance.add(ours, p.logits);
  }));
  return distance.value();
}

}  // namespace ponder::backend::testing
