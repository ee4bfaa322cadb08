// Random weights, fast. Quantising billions of random numbers would take minutes, so for each kind
// of tensor (attn_q.weight of all layers, say) and format a pool of up to 2,048 chunks of up to 256
// weights is quantised once, and every row is put together from chunks drawn from it. Rows
// therefore differ (a row of 1,536 is one of 2048^6), files are the same for the same seed, and
// what is written costs no more than copying. The price: two rows of one kind share any one chunk
// with probability 1 / 2048. Kinds share nothing: a head made of the embedding's own rows would
// answer every token with itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "quant/format.h"

namespace ponder::synth {

/// splitmix64: a full-period generator that any seed starts well, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// Standard normal (Box-Muller).
  double normal();

 private:
  uint64_t state_;
};

/// A seed for one tensor: depends on the file's seed and the tensor's name only.
uint64_t tensor_seed(uint64_t seed, std::string_view name);

class RowPool {
 public:
  explicit RowPool(uint64_t seed) : seed_(seed) {}

  /// What a tensor's rows are drawn from; the reference stays valid as long as the pool.
  struct Chunks {
    uint64_t chunk_bytes = 0;
    std::vector<uint8_t> bytes;
  };

  /// Normal weights for tensor `name` of rows * columns weights.
  const Chunks& chunks(const quant::Format& format, std::string_view name, double deviation, uint64_t columns,
                       uint64_t rows);

 private:
  uint64_t seed_;
  std::map<std::string, Chunks> chunks_;  // by kind of tensor and format
};

/// Fills `out` (whole rows) with chunks drawn at random.
void fill(const RowPool::Chunks& chunks, Random& random, std::vector<uint8_t>& out);

}  // namespace ponder::synth
