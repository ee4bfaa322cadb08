// Attention on the card: RoPE, the write of K and V into pages, and softmax(q K^T) V read from pages.
//
// A page holds 64 tokens. In each layer and KV head of a page: K, then V, each [head_dim_padded / 8][64 tokens][8] half
// precision ("chunks": 8 numbers of one token are 16 bytes, 8 tokens of a chunk are one 8 x 8 matrix for ldmatrix;
// head_dim is padded to a multiple of 16 with zeros that the writer stores).
//
// Numerics: q is held as the sum of two halves (q = hi + lo, the error is 2^-22), K and V are halves as stored, also
// for the rows in flight. Per block of 64 tokens (absolute positions): score = (hi.k + lo.k) * scale * log2 e, the
// block's own maximum m, p = half(2^(score - m)), o = sum p v, l = sum p in mma order. Blocks are merged in order into
// partials of 256 tokens, partials in order into the row: m' = max(m, m_b), o' = fma(o, 2^(m - m'), o_b * 2^(m_b - m')).
// Tokens past the row's position add nothing, whatever the memory holds.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/launch.h"

namespace ponder::backend::cuda {

constexpr int kBlockTokens = 64;   ///< = kv::kPageTokens
constexpr int kPartialBlocks = 4;  ///< blocks of a partial
constexpr int kMaxHeadDim = 256;

__host__ __device__ constexpr int padded_head_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

/// Bytes of K (or V) of one head in a page of q8 (attention_bytes.cuh).
__host__ __device__ constexpr int byte_part_bytes(int padded) {
  return kBlockTokens * (padded + (padded + 31) / 32 * 2);
}

/// Bytes of one layer in one page (K and V of all KV heads), as halves or as q8.
__host__ __device__ constexpr size_t kv_layer_bytes(int n_kv_heads, int head_dim, bool q8 = false) {
  const int padded = padded_head_dim(head_dim);
  return size_t(n_kv_heads) * 2 * size_t(q8 ? byte_part_bytes(padded) : padded * kBlockTokens * 2);
}
/// Bytes of key_bias (AttentionArgs).
__host__ __device__ constexpr size_t key_bias_bytes(int n_kv_heads, int head_dim) {
  return size_t(n_kv_heads) * size_t(padded_head_dim(head_dim)) * kBlockTokens * 2;
}

/// Consecutive rows of one sequence.
struct RowRun {
  int first = 0, n = 0;
};

struct AttentionArgs {
  int n_heads = 0, n_kv_heads = 0, head_dim = 0;
  float scale = 0;  ///< on q.k

  // Rows. All in device memory; read after the wait.
  int n_rows = 0;
  const int32_t* positions = nullptr;   ///< [n_rows]; a negative one: the row is not there (its output is not written)
  const int32_t* page_table = nullptr;  ///< [n_rows][page_table_stride]: page ids of the row's sequence
  int64_t page_table_stride = 0;
  int max_position = 0;  ///< no row's position is greater: bounds the grid and the scratch

  /// Host memory, optional: rows of one sequence at ascending positions, for launches of more than 16 rows. Long runs
  /// then share what they read of K and V. Without it every row reads for itself.
  const RowRun* runs = nullptr;
  int n_runs = 0;

  float* q = nullptr;  ///< [n_rows][q_stride]: projections, biases added; rope_and_store() rotates it in place
  int64_t q_stride = 0;
  const float* k = nullptr;
  int64_t k_stride = 0;
  const float* v = nullptr;
  int64_t v_stride = 0;

  uint8_t* pages = nullptr;  ///< this layer's part of page 0
  int64_t page_stride = 0;   ///< bytes from page to page
  bool q8 = false;           ///< pages hold int8, not halves
  /// With q8, of layers that add a bias to K: `k` comes without it, and this table (make_key_bias) adds it when keys are
  /// read. Null: `k` is whole.
  const void* key_bias = nullptr;

  // RoPE: angles come as a table, made once by the host in double.
  const float2* rope = nullptr;  ///< [positions][rope_dims / 2]: cos, sin (times the magnitude)
  int rope_dims = 0;
  bool rope_pairs = false;        ///< rotates (2i, 2i + 1), else (i, i + dims / 2)
  const float* q_norm = nullptr;  ///< [head_dim] or null: RMS norm of each head before RoPE
  const float* k_norm = nullptr;
  float norm_epsilon = 0;

  float* out = nullptr;  ///< [n_rows][out_stride], n_heads * head_dim numbers
  int64_t out_stride = 0;

  void* scratch = nullptr;  ///< attention_scratch_bytes(), zeroed once before its first use
};

/// Scratch of attend() for any number of rows.
size_t attention_scratch_bytes(int n_heads, int n_kv_heads, int head_dim, int max_position);

/// Fills key_bias_bytes() at `out` from a K bias [n_kv_heads * head_dim], on the card. Uses head shape, RoPE of `args`.
cudaError_t make_key_bias(const AttentionArgs& args, const float* bias, void* out, cudaStream_t stream);

/// Norms and rotates q in place; norms, rotates and stores k; stores v. All rows before any attend.
cudaError_t rope_and_store(const AttentionArgs& args, const Launch& launch);
/// Attention of rows whose K and V are stored. Rows by ones take a kernel that splits their tokens over the card; long
/// runs a kernel that shares K and V among queries. The bits are the same.
cudaError_t attend(const AttentionArgs& args, const Launch& launch);
/// Both, one after the other; for one row in a single kernel (q is then not rewritten).
cudaError_t rope_store_attend(const AttentionArgs& args, const Launch& launch);

}  // namespace ponder::backend::cuda
