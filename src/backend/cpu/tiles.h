// How the attention of a batch is cut into tasks. A tile is a few rows of one sequence; a task is a tile, a KV head and
// a range of softmax partials. The cut changes speed only, never a bit (docs/numerics.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/vector.h"

namespace ponder::backend::cpu {

/// Rows of a tile: about 48 queries (rows x heads of a KV head) share each block of K and V.
inline int tile_rows(const model::LayerSpec& layer) { return std::max(1, 48 / (layer.n_heads / layer.n_kv_heads)); }

/// A row that attends: `source` is its row in the batch (Q, K, V, RoPE), `target` where its result goes.
struct AttentionRow {
  const uint8_t* const* pages = nullptr;
  int32_t position = 0;
  int source = 0, target = 0;
};

struct Tile {
  int begin = 0, end = 0;  ///< AttentionRows, of one sequence, ascending
  int partials = 0;        ///< that its last row sees
};

struct AttentionTask {
  int tile = 0, kv_head = 0;
  int first = 0, last = 0;  ///< partials
  int64_t slot = -1;        ///< of the tile's partial 0 for this head, in queries; -1: this task does the whole tile
  int counter = -1;         ///< counts the partials that are still to come
};

/// Partials become tasks of their own when there are fewer tiles x KV heads than this for each thread.
constexpr int kFewTasks = 4;

/// The attention of one layer for a list of rows (all layers of a shape share it).
struct AttentionPlan {
  std::vector<AttentionRow> rows;
  std::vector<Tile> tiles;
  std::vector<AttentionTask> tasks;  ///< dearest first
  int n_counters = 0;                ///< at most kFewTasks * threads
  /// Every sequence's rows are one tile, so the tasks themselves write K and V (no pass and barrier before them).
  bool tasks_write_kv = false;

  /// Memory for all that `rows` rows of sequences within `kv_tokens` can make.
  void reserve(const model::LayerSpec& layer, int threads, int rows, int64_t kv_tokens);
  void make(const model::LayerSpec& layer, int threads, int64_t max_slots);
};

}  // namespace ponder::backend::cpu
