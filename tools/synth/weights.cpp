// See weights.h for how and why.
#include "synth/weights.h"

#include <cmath>
#include <cstring>
#include <numbers>

namespace ponder::synth {
namespace {

constexpr uint64_t kPoolChunks = 2048;

}  // namespace

double Random::normal() {
  const double u = double((next() >> 11) + 1) * 0x1p-53;  // (0, 1]
  const double v = double(next() >> 11) * 0x1p-53;
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

uint64_t tensor_seed(uint64_t seed, std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) h = (h ^ uint8_t(c)) * 0x100000001b3u;
  return Random(seed ^ h).next();
}

const RowPool::Pool& RowPool::pool(const quant::Format& format, double deviation, uint64_t chunk) {
  Pool& p = pools_[{&format, {deviation, chunk}}];
  if (!p.bytes.empty()) return p;
  p.chunk_bytes = format.row_bytes(chunk);
  p.bytes.resize(p.chunk_bytes * kPoolChunks);
  Random random(seed_ ^ (uint64_t(format.type) << 32) ^ chunk);
  std::vector<float> x(chunk * kPoolChunks);
  for (float& v : x) v = float(deviation * random.normal());
  format.quantize(x.data(), p.bytes.data(), x.size() / format.block_size);
  return p;
}

void RowPool::fill(const quant::Format& format, double deviation, uint64_t columns, Random& random,
                   std::vector<uint8_t>& out) {
  const uint64_t chunk = columns % 256 == 0 ? 256 : columns % 32 == 0 ? 32 : 1;
  const Pool& p = pool(format, deviation, chunk);
  for (uint64_t at = 0; at < out.size(); at += p.chunk_bytes) {
    std::memcpy(out.data() + at, p.bytes.data() + random.next() % kPoolChunks * p.chunk_bytes,
                p.chunk_bytes);
  }
}

}  // namespace ponder::synth
