// Merging works on ids: a merge is found by its pair of ids in one flat table, no text is touched.
// Words of ordinary length are merged by scanning a short array of ranks; a long run (a megabyte of
// one letter is one pre-token) goes through a heap, so that the cost stays n log n. Both give the
// same tokens (bpe_test.cpp).
#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>

namespace ponder::tokenizer {
namespace {

constexpr size_t kLongest = 1u << 24;  // indices are 32-bit; a longer pre-token is cut here
constexpr std::string_view kMerges = "tokenizer.ggml.merges";

}  // namespace

Result<Bpe> Bpe::load(const gguf::File& file, const Vocabulary& vocabulary, bool ignore_merges) {
  PONDER_TRY(const gguf::ArrayView* merges, file.require_array(kMerges, gguf::ValueType::string));
  if (merges->size() >= UINT32_MAX / 4) {
    return Error{ErrorCode::invalid_file, std::string(kMerges) + ": too many entries"};
  }
  Bpe bpe;
  bpe.merges_.reserve(merges->size());
  std::string joined;
  for (uint64_t i = 0; i < merges->size(); ++i) {
    const std::string_view line = merges->string_at(i).value_or("");
    // The separator is the first space after the first byte: in the byte alphabet no piece contains
    // one, but a vocabulary with raw text may begin a piece with it.
    const size_t space = line.find(' ', 1);
    const auto malformed = [&](const std::string& why) {
      return Error{ErrorCode::invalid_file, std::string(kMerges) + ": entry " + std::to_string(i) + " (\"" +
                                                std::string(line.substr(0, 80)) + "\") " + why};
    };
    if (space == std::string_view::npos || space + 1 == line.size()) {
      return malformed("is not two pieces with a space between them");
    }
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    joined.assign(left).append(right);
    const auto l = vocabulary.find(left), r = vocabulary.find(right), m = vocabulary.find(joined);
    if (!l || !r || !m) return malformed("joins pieces that are not in tokenizer.ggml.tokens");
    bpe.merges_.insert(*l, *r, uint32_t(i), *m);
  }
  if (ignore_merges) {
    bpe.ignore_merges_ = true;
    bpe.whole_.reserve(size_t(vocabulary.size()));
    const auto bytes_of = [&](TokenId id) { return vocabulary.bytes(id); };
    for (TokenId id = 0; id < vocabulary.size(); ++id) {
      if (vocabulary.kind(id) == TokenKind::normal) bpe.whole_.insert(vocabulary.bytes(id), id, bytes_of);
    }
  }
  return bpe;
}

void Bpe::encode(std::string_view piece, const Vocabulary& vocabulary, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    const TokenId id = whole_.find(piece, [&](TokenId i) { return vocabulary.bytes(i); });
    if (id >= 0) {
      out.push_back(id);
      return;
    }
  }
  if (piece.size() == 1) {
    if (const TokenId id = vocabulary.byte_token(uint8_t(piece[0])); id >= 0) out.push_back(id);
    return;
  }
  for (; !piece.empty(); piece.remove_prefix(std::min(piece.size(), kLongest))) {
    const size_t begin = out.size();
    for (const char c : piece.substr(0, kLongest)) {
      if (const TokenId id = vocabulary.byte_token(uint8_t(c)); id >= 0) out.push_back(id);
    }
    const std::span<TokenId> symbols = std::span(out).subspan(begin);
    out.resize(begin + (symbols.size() <= kShort ? merge_short(symbols) : merge_long(symbols)));
  }
}

size_t Bpe::merge_short(std::span<TokenId> symbols) const {
  size_t n = symbols.size();
  struct Next {
    uint32_t rank;
    TokenId id;
  };
  std::array<Next, kShort> next;  // next[i]: the merge of symbols i and i + 1
  const auto look_up = [&](size_t i) {
    const PairTable::Merge& merge = merges_.find(symbols[i], symbols[i + 1]);
    next[i] = {merge.rank, merge.id};
  };
  for (size_t i = 0; i + 1 < n; ++i) look_up(i);
  while (n >= 2) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (next[i].rank < next[best].rank) best = i;
    }
    if (next[best].rank == UINT32_MAX) break;
    symbols[best] = next[best].id;
    std::copy(symbols.begin() + best + 2, symbols.begin() + n, symbols.begin() + best + 1);
    if (best + 2 < n) std::copy(next.begin() + best + 1, next.begin() + n - 1, next.begin() + best);
    --n;
    if (best > 0) look_up(best - 1);
    if (best + 1 < n) look_up(best);
  }
  return n;
}

size_t Bpe::merge_long(std::span<TokenId> symbols) const {
  struct Candidate {
    uint32_t rank, position;
    TokenId left, right, merged;
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
  };
  const uint32_t n = uint32_t(symbols.size());
  // A doubly linked list over positions; a symbol that was merged into its left neighbour is -1.
  std::vector<uint32_t> before(n), after(n);
  std::vector<Candidate> heap;
  heap.reserve(n);
  const auto candidate = [&](uint32_t i) {
    const PairTable::Merge& merge = merges_.find(symbols[i], symbols[after[i]]);
    return Candidate{merge.rank, i, symbols[i], symbols[after[i]], merge.id};
  };
  for (uint32_t i = 0; i < n; ++i) {
    before[i] = i - 1;  // of the first: UINT32_MAX, not below n
    after[i] = i + 1;
  }
  for (uint32_t i = 0; i + 1 < n; ++i) {
    const Candidate c = candidate(i);
    if (c.rank != UINT32_MAX) heap.push_back(c);
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](uint32_t i) {
    const Candidate c = candidate(i);
    if (c.rank == UINT32_MAX) return;
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate c = heap.back();
    heap.pop_back();
    const uint32_t i = c.position, j = after[i];
    // Stale: one of the two has been merged with something else meanwhile.
    if (symbols[i] != c.left || j >= n || symbols[j] != c.right) continue;
    symbols[i] = c.merged;
    symbols[j] = -1;
    after[i] = after[j];
    if (after[i] < n) before[after[i]] = i;
    if (before[i] < n) push(before[i]);
    if (after[i] < n) push(i);
  }
  return size_t(std::remove(symbols.begin(), symbols.end(), TokenId(-1)) - symbols.begin());
}

}  // namespace ponder::tokenizer
