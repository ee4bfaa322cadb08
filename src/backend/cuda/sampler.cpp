// The host's half of drawing: requests as the kernels want them. Next: sampler.cu.
#include "backend/cuda/sampler.h"

#include <algorithm>

namespace ponder::backend::cuda {

void DrawBatch::clear() {
  rows.clear();
  edits.clear();
  mask.clear();
  changes = false;
}

bool DrawBatch::add(const sample::Request& request, int vocab) {
  const sample::Params& p = *request.params;
  DrawRequest r;
  const bool limited = p.top_k > 1 && p.top_k < vocab;
  if (request.top_logprobs >= 0 || (limited && p.top_k > kMaxDeviceTopK && p.temperature > 0)) {
    rows.push_back(r);
    return false;
  }
  r.active = 1;
  r.top_k = p.top_k;
  r.temperature = p.temperature;
  r.top_p = p.top_p;
  r.min_p = p.min_p;
  r.repeat_penalty = p.repeat_penalty;
  r.presence_penalty = p.presence_penalty;
  r.frequency_penalty = p.frequency_penalty;
  r.seed = p.seed;
  r.stream = request.stream;
  r.position = request.position;

  std::vector<LogitEdit> own;
  for (const auto& [token, bias] : p.logit_bias)
    if (token >= 0 && token < vocab) own.push_back({token, 1, bias});
  if (p.repeat_last_n != 0 && (p.repeat_penalty != 1.f || p.presence_penalty != 0.f || p.frequency_penalty != 0.f)) {
    auto window = request.history;
    if (p.repeat_last_n > 0 && size_t(p.repeat_last_n) < window.size()) window = window.last(size_t(p.repeat_last_n));
    std::vector<int32_t> seen(window.begin(), window.end());
    std::sort(seen.begin(), seen.end());
    for (size_t i = 0; i < seen.size();) {
      size_t end = i;
      while (end < seen.size() && seen[end] == seen[i]) ++end;
      if (seen[i] >= 0 && seen[i] < vocab) own.push_back({seen[i], 0, float(end - i)});
      i = end;
    }
  }
  std::stable_sort(own.begin(), own.end(), [](const LogitEdit& a, const LogitEdit& b) { return a.token < b.token; });
  r.first_edit = int32_t(edits.size());
  r.n_edits = int32_t(own.size());
  edits.insert(edits.end(), own.begin(), own.end());
  if (!request.mask.empty()) {
    r.mask_word = int32_t(mask.size());
    r.mask_words = int32_t(std::min(request.mask.size(), size_t(vocab + 31) / 32));
    mask.insert(mask.end(), request.mask.begin(), request.mask.begin() + r.mask_words);
  }
  changes = changes || r.n_edits > 0 || r.mask_word >= 0;
  rows.push_back(r);
  return true;
}

}  // namespace ponder::backend::cuda
