// Masks as runs of ids: a grammar's mask of 150,000 bits is usually a few hundred runs. Next to read: replay.cpp.
#include "engine/recording.h"

#include <algorithm>

namespace ponder::engine {
namespace {
// Bits of the last word that stand for no token do not count.
uint32_t valid_bits(size_t word, int vocab_size) {
  const int left = vocab_size - int(word) * 32;
  return left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
}
}  // namespace

uint64_t mask_digest(sample::MaskWords words, int vocab_size) {
  if (words.empty()) return 0;
  uint64_t h = 0xcbf29ce484222325ull;  // FNV-1a (Fowler, Noll, Vo)
  for (size_t i = 0; i < size_t(vocab_size + 31) / 32; ++i) {
    const uint32_t word = i < words.size() ? words[i] & valid_bits(i, vocab_size) : 0;
    for (int shift = 0; shift < 32; shift += 8) h = (h ^ (word >> shift & 0xff)) * 0x100000001b3ull;
  }
  return h == 0 ? 1 : h;
}

std::vector<int32_t> mask_runs(sample::MaskWords words, int vocab_size) {
  std::vector<int32_t> runs;
  const size_t n = std::min(words.size() * 32, size_t(vocab_size));
  const auto allowed = [&](size_t id) { return (words[id / 32] >> (id % 32) & 1) != 0; };
  for (size_t id = 0; id < n; ++id) {
    if (!allowed(id)) continue;
    const size_t first = id;
    while (id < n && allowed(id)) ++id;
    if (runs.size() / 2 >= Action::kMaxRuns) return {};
    runs.push_back(int32_t(first));
    runs.push_back(int32_t(id - first));
  }
  return runs;
}

std::vector<uint32_t> mask_words(std::span<const int32_t> runs) {
  std::vector<uint32_t> words(1, 0);  // one that allows nothing is a mask too
  for (size_t i = 0; i + 1 < runs.size(); i += 2) {
    const size_t end = size_t(runs[i]) + size_t(runs[i + 1]);
    if (runs[i + 1] > 0 && end > words.size() * 32) words.resize((end + 31) / 32, 0);
    for (size_t id = size_t(runs[i]); id < end;) {  // a word at a time
      const size_t bit = id % 32, n = std::min(32 - bit, end - id);
      words[id / 32] |= (n == 32 ? ~0u : (1u << n) - 1) << bit;
      id += n;
    }
  }
  return words;
}

}  // namespace ponder::engine
