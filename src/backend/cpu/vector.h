// Everything of a step that is not a matrix product: norms, RoPE, activations, writing K and V, attention. One table of
// functions per instruction set; all of them are the same source over 16 lanes (isa/vector_kernels.h), so that every
// level gives the same bits. Attention follows docs/numerics.md: scores and softmax in float32, partials of 256 tokens
// from absolute positions, merged in order.
// Sources: Zhang & Sennrich 2019 (RMS norm), Su et al. 2021 (RoPE), Milakov & Gimelshein 2018 (online softmax).
#pragma once

#include <cstdint>

#include "backend/cpu/isa/isa_level.h"

namespace ponder::backend::cpu {

constexpr int kPartialTokens = 256;  ///< tokens per softmax partial
constexpr int kPageTokens = 64;      ///< tokens of a KV page
constexpr int kTokenLanes = 16;      ///< tokens of one K block: K is [token / 16][dim][16 tokens], V [token][dim]
constexpr int kMicroQueries = 12;    ///< most queries one inner kernel takes at any level
constexpr int kByteGroup = 32;       ///< numbers of a head that share a scale in `q8`

enum class Gate : uint8_t { silu, gelu_tanh };

/// How a page holds K and V. q8: int8 with a half as scale for every 32 numbers of a token and head.
enum class Stored : uint8_t { f16, f32, q8 };

/// A head's numbers rounded up to whole scales, and to whole vectors.
constexpr int byte_groups(int n) { return (n + kByteGroup - 1) / kByteGroup; }
constexpr int padded_head(int head_dim) { return (head_dim + 15) / 16 * 16; }

/// Bytes of 16 tokens' K of one head (q8: scales [group][16], then [dim][16] int8).
constexpr int64_t k_block_bytes(Stored stored, int head_dim) {
  if (stored == Stored::q8) return int64_t(kTokenLanes) * (head_dim + 2 * byte_groups(head_dim));
  return int64_t(kTokenLanes) * head_dim * (stored == Stored::f16 ? 2 : 4);
}
/// Bytes of a page's V of one head (q8: scales [64][group], then [64][padded_head] int8).
constexpr int64_t v_page_bytes(Stored stored, int head_dim) {
  if (stored == Stored::q8) return int64_t(kPageTokens) * (padded_head(head_dim) + 2 * byte_groups(head_dim));
  return int64_t(kPageTokens) * padded_head(head_dim) * (stored == Stored::f16 ? 2 : 4);
}

/// Keys that are stored without their bias (q8: a bias that dwarfs the rest would take all of int8's range). A page then
/// holds them rotated by the place in the page instead of the position, so that the biases of its 64 places are one small
/// table for all pages; queries are turned back by the page's first position.
struct KeyBias {
  const float* places = nullptr;  ///< [head_dim][64]: the bias, rotated by the place. Null: keys are whole.
  const float* starts = nullptr;  ///< [page][rope_dims]: cosines of the page's first position, then sines
  int rope_dims = 0;
  bool pairs = false;  ///< (2i, 2i + 1) rotate together, else (i, i + rope_dims / 2)
};

/// The KV of one sequence, layer and KV head, and queries that look at it. A query is one head of one row.
struct AttentionItem {
  const uint8_t* const* pages = nullptr;  ///< storage of the sequence's pages, 64 tokens each
  uint64_t k_offset = 0, v_offset = 0;    ///< of this layer and head inside a page, bytes
  Stored stored = Stored::f16;
  KeyBias bias;
  int head_dim = 0;
  int v_stride = 0;  ///< head_dim rounded up to 16: a token's V in the page, and of `acc`
  int n_queries = 0;
  const float* const* queries = nullptr;  ///< head_dim floats each, rotated and scaled
  const int32_t* limits = nullptr;        ///< tokens each query sees (its position + 1), ascending
};

/// Softmax over some tokens, not yet divided: largest score, sum of exp(score - largest), weighted sum of V.
struct AttentionState {
  float* largest = nullptr;  ///< [n_queries]
  float* sum = nullptr;      ///< [n_queries]
  float* acc = nullptr;      ///< [n_queries][v_stride]
};

struct VectorKernels {
  const char* isa;

  /// out = x / rms(x) * gain. In place is fine.
  void (*rms_norm)(const float* x, const float* gain, float* out, int n, float epsilon);
  /// x += y
  void (*add)(float* x, const float* y, int n);
  /// x *= s
  void (*scale)(float* x, float s, int n);
  /// out = act(gate) * up
  void (*gate)(Gate kind, const float* gate, const float* up, float* out, int n);
  /// exp of each number, the one used by softmax and activations; clamped to [-87, 88].
  void (*exp)(const float* x, float* out, int n);
  /// Rotates a head. halves: (x[i], x[i + dims/2]) with dims/2 cosines and sines. pairs: (x[2i], x[2i+1]) with dims of
  /// each: every cosine twice, and sines as (-s, s).
  void (*rope_halves)(float* x, const float* cosines, const float* sines, int dims);
  void (*rope_pairs)(float* x, const float* cosines, const float* sines, int dims);
  /// Stores one head's K and V of a token: `slot` is its place in the page, `k` and `v` the head's parts of the page.
  void (*write_k)(const float* values, int head_dim, uint8_t* k, int slot, Stored stored);
  void (*write_v)(const float* values, int head_dim, uint8_t* v, int slot, Stored stored);

  /// Partial `index` (tokens 256 * index ...) for the queries that see any of it; others are left alone. Returns the
  /// first such query. `scratch` holds attention_scratch(head_dim) floats, 64-byte aligned.
  int (*attention_partial)(const AttentionItem& item, int index, const AttentionState& out, float* scratch);
  /// into = into merged with a later partial, for queries from `first` on.
  void (*attention_merge)(const AttentionItem& item, int first, const AttentionState& into,
                          const AttentionState& later);
  /// out[i] = acc / sum, head_dim floats each.
  void (*attention_finish)(const AttentionItem& item, const AttentionState& state, float* const* out);
};

/// Floats: scores, queries as they are and turned back for a page, scales of V.
constexpr int64_t attention_scratch(int head_dim) {
  return int64_t(kPartialTokens) * (kMicroQueries + byte_groups(head_dim)) + 2 * int64_t(kTokenLanes) * head_dim;
}

/// The kernels of a level that isa::available() lists.
const VectorKernels& vector_kernels(isa::Level level);

}  // namespace ponder::backend::cpu
