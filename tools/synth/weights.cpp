// See weights.h for how and why.
#include "synth/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace ponder::synth {
namespace {

constexpr uint64_t kPoolChunks = 2048;

/// "attn_q.weight" for "blk.7.attn_q.weight"; other names are kinds of their own.
std::string_view kind(std::string_view name) {
  if (!name.starts_with("blk.")) return name;
  const size_t dot = name.find('.', 4);
  return dot == name.npos ? name : name.substr(dot + 1);
}

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

const RowPool::Chunks& RowPool::chunks(const quant::Format& format, std::string_view name, double deviation,
                                       uint64_t columns, uint64_t rows) {
  const std::string key = std::string(kind(name)) + " " + format.name;
  Chunks& c = chunks_[key];
  if (!c.bytes.empty()) return c;
  const uint64_t chunk = columns % 256 == 0 ? 256 : columns % 32 == 0 ? 32 : 1;
  const uint64_t n = std::min(kPoolChunks, rows * (columns / chunk));
  c.chunk_bytes = format.row_bytes(chunk);
  c.bytes.resize(c.chunk_bytes * n);
  Random random(tensor_seed(seed_, key));
  std::vector<float> x(chunk * n);
  for (float& v : x) v = float(deviation * random.normal());
  format.quantize(x.data(), c.bytes.data(), x.size() / format.block_size);
  return c;
}

void fill(const RowPool::Chunks& chunks, Random& random, std::vector<uint8_t>& out) {
  const uint64_t size = chunks.chunk_bytes, n = chunks.bytes.size() / size;
  for (uint64_t at = 0; at < out.size(); at += size) {
    std::memcpy(out.data() + at, chunks.bytes.data() + random.next() % n * size, size);
  }
}

}  // namespace ponder::synth
