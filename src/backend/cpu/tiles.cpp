// Whole tiles when there are enough of them to keep the threads busy; otherwise every partial of 256 tokens is a task of
// its own, and whoever finishes a tile's last partial merges them in order.
#include "backend/cpu/tiles.h"

#include <tuple>

namespace ponder::backend::cpu {

void AttentionPlan::reserve(const model::LayerSpec& layer, int threads, int n_rows, int64_t kv_tokens) {
  const size_t whole = size_t(n_rows) * size_t(layer.n_kv_heads);
  const size_t parts = size_t(kFewTasks * threads) * size_t(kv_tokens / kPartialTokens + 1);
  rows.reserve(size_t(n_rows));
  tiles.reserve(size_t(n_rows));
  tasks.reserve(std::max(whole, parts));
}

void AttentionPlan::make(const model::LayerSpec& layer, int threads, int64_t max_slots) {
  const int group = layer.n_heads / layer.n_kv_heads, per_tile = tile_rows(layer);
  tiles.clear();
  tasks.clear();
  n_counters = 0;
  tasks_write_kv = true;
  for (int i = 0; i < int(rows.size());) {
    int sequence_end = i + 1;
    while (sequence_end < int(rows.size()) && rows[size_t(sequence_end)].pages == rows[size_t(i)].pages) ++sequence_end;
    const int n = sequence_end - i, n_tiles = (n + per_tile - 1) / per_tile;
    if (n_tiles > 1) tasks_write_kv = false;
    for (int t = 0; t < n_tiles; ++t) {
      Tile tile{i + n * t / n_tiles, i + n * (t + 1) / n_tiles, 0};
      tile.partials = rows[size_t(tile.end - 1)].position / kPartialTokens + 1;
      tiles.push_back(tile);
    }
    i = sequence_end;
  }

  const bool few = threads > 1 && int(tiles.size()) * layer.n_kv_heads < kFewTasks * threads;
  int64_t slots = 0;
  for (int t = 0; t < int(tiles.size()); ++t) {
    const Tile& tile = tiles[size_t(t)];
    const int64_t queries = int64_t(tile.end - tile.begin) * group;
    for (int h = 0; h < layer.n_kv_heads; ++h) {
      if (!few || tile.partials == 1 || slots + queries * tile.partials > max_slots) {
        tasks.push_back({t, h, 0, tile.partials, -1, -1});
        continue;
      }
      for (int p = 0; p < tile.partials; ++p) tasks.push_back({t, h, p, p + 1, slots, n_counters});
      slots += queries * tile.partials;
      ++n_counters;
    }
  }
  const auto cost = [&](const AttentionTask& a) {
    const Tile& tile = tiles[size_t(a.tile)];
    return int64_t(a.last - a.first) * (tile.end - tile.begin);
  };
  // In place: the library's stable sort would allocate.
  std::sort(tasks.begin(), tasks.end(), [&](const AttentionTask& a, const AttentionTask& b) {
    return std::tuple(-cost(a), a.tile, a.kv_head, a.first) < std::tuple(-cost(b), b.tile, b.kv_head, b.first);
  });
}

}  // namespace ponder::backend::cpu
