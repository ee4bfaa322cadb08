// Where the results of blocks and partials lie between the thread blocks of decode's attention and their merge.
#pragma once

#include "backend/cuda/attention_parts.cuh"

namespace ponder::backend::cuda {

/// Result of a block or partial in scratch: sums of 8 heads, then (maximum, l) of each.
__host__ __device__ constexpr int slot_floats(int head_dim) { return kHeadsTogether * (head_dim + 2); }

struct SplitScratch {
  float* slots;       ///< [row][KV head and group of heads][slot]
  unsigned* tickets;  ///< [row][KV head and group]: thread blocks that are done
  int max_slots;
  bool merge_apart;  ///< by merge_slots_apart()
};

__host__ __device__ constexpr int head_groups(int n_heads, int n_kv_heads) {
  return (n_heads / n_kv_heads + kHeadsTogether - 1) / kHeadsTogether;
}

/// What a slot holds: while there are enough thread blocks, one takes a block of tokens; then a partial, or several.
struct Units {
  int n_blocks, n;
  bool by_blocks;
  __device__ __forceinline__ Units(int position, int splits) : n_blocks(position / kBlockTokens + 1) {
    by_blocks = n_blocks <= splits;
    n = by_blocks ? n_blocks : (n_blocks + kPartialBlocks - 1) / kPartialBlocks;
  }
};

/// Merges all slots of all rows and writes the output. room: numbers per head in a slot; splits: of the launch before.
cudaError_t merge_slots_apart(const AttentionArgs& args, const SplitScratch& scratch, int room, int splits,
                              const Launch& launch);

}  // namespace ponder::backend::cuda
