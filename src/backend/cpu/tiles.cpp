// Whole tiles when there are enough of them to keep the threads busy; otherwise every partial of 256 tokens is a task of
// its own, and whoever finishes a tile's last partial merges them in order.
#include "backend/cpu/tiles.h"

namespace ponder::backend::cpu {

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

  const bool few = threads > 1 && int(tiles.size()) * layer.n_kv_heads < 4 * threads;
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
  std::stable_sort(tasks.begin(), tasks.end(), [&](const auto& a, const auto& b) { return cost(a) > cost(b); });
}

}  // namespace ponder::backend::cpu
