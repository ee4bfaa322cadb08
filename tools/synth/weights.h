// Random weights, fast. Quantising billions of random numbers would take minutes, so for each
// (format, deviation) a pool of 2,048 chunks of up to 256 weights is quantised once, and every row
// of a tensor is put together from chunks drawn from it. Rows therefore differ (a row of 1,536 is
// one of 2048^6), files are the same for the same seed, and what is written costs no more than
// copying. The price: two rows share any one chunk with probability 1 / 2048.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
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

  /// Fills `out` (whole rows of `columns` weights) with normal weights of that deviation.
  void fill(const quant::Format& format, double deviation, uint64_t columns, Random& random,
            std::vector<uint8_t>& out);

 private:
  struct Pool {
    uint64_t chunk_bytes = 0;
    std::vector<uint8_t> bytes;
  };
  const Pool& pool(const quant::Format& format, double deviation, uint64_t chunk);

  uint64_t seed_;
  std::map<std::pair<const quant::Format*, std::pair<double, uint64_t>>, Pool> pools_;
};

}  // namespace ponder::synth
