// What the tests and benchmarks of the kernels share: device buffers, random weights in the file's
// own formats, and the arithmetic of linear.h on the host, bit by bit.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/linear.h"
#include "base/half.h"
#include "quant/format.h"

namespace ponder::backend::cuda::test {

inline void must(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(e));
  std::exit(1);
}

/// Device memory filled with 0xff (so that an unwritten float is a NaN).
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t n) : n_(n) {
    must(cudaMalloc(&data_, (n + 64) * sizeof(T)), "cudaMalloc");
    poison();
  }
  explicit Buffer(const std::vector<T>& v) : Buffer(v.size()) { set(v); }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() { return data_; }
  void poison() { must(cudaMemset(data_, 0xff, n_ * sizeof(T)), "cudaMemset"); }
  void set(const std::vector<T>& v) {
    must(cudaMemcpy(data_, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
  }
  std::vector<T> host() {
    std::vector<T> v(n_);
    must(cudaMemcpy(v.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
    return v;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& f : v) f = normal(rng) * scale;
  return v;
}

/// A matrix with random weights: as in a file, on the host, and packed on the device.
struct TestMatrix {
  const quant::Format* format;
  int rows, columns;
  std::vector<uint8_t> raw;
  Buffer<uint8_t> packed;
  Matrix matrix;

  TestMatrix(const char* type, int rows, int columns, uint32_t seed)
      : format(quant::find_format(std::string_view(type))),
        rows(rows),
        columns(columns),
        raw(size_t(rows) * format->row_bytes(uint64_t(columns))),
        packed(packed_bytes(kind(), rows, columns)),
        matrix{packed.get(), kind(), rows, columns} {
    const std::vector<float> w = random_floats(size_t(columns), seed, 0.05f);
    for (int r = 0; r < rows; ++r) {
      std::vector<float> row = w;
      for (int c = 0; c < columns; ++c) row[size_t(c)] = w[size_t((c * 7 + r * 13) % columns)] + 0.001f * float(r % 5);
      format->quantize(row.data(), raw.data() + size_t(r) * format->row_bytes(uint64_t(columns)),
                       size_t(columns) / format->block_size);
    }
    Buffer<uint8_t> on_device(raw);
    const int first = rows / 2 / 16 * 16;  // in two pieces, as a loader sends them
    if (first > 0) must(repack(kind(), on_device.get(), first, columns, 0, packed.get(), nullptr), "repack");
    must(repack(kind(), on_device.get() + size_t(first) * format->row_bytes(uint64_t(columns)), rows - first, columns,
                first, packed.get(), nullptr),
         "repack");
    must(cudaDeviceSynchronize(), "repack");
  }
  TileKind kind() const {
    TileKind k = TileKind::f32;
    if (!tile_kind(uint32_t(format->type), &k)) must(cudaErrorInvalidValue, "a layout for the type");
    return k;
  }
  const uint8_t* block(int row, int b) const {
    return raw.data() + size_t(row) * format->row_bytes(uint64_t(columns)) + size_t(b) * format->block_bytes;
  }
};

/// One quantised row (linear.h).
struct HostRow {
  std::vector<int> q;
  std::vector<float> v, dy;
  float rms = 1;

  HostRow(const float* x, const float* norm, float epsilon, int columns) {
    const int groups = (columns + 255) / 256;
    q.assign(size_t(groups) * 256, 0);
    v.assign(size_t(groups) * 256, 0.f);
    std::vector<float> squares;
    for (int g = 0; g < groups; ++g) {
      float peak = 0, lane[32];
      for (int l = 0; l < 32; ++l) {
        float s = 0;
        for (int i = 0; i < 8; ++i) {
          const int c = g * 256 + i / 4 * 128 + l * 4 + i % 4;
          const float f = c < columns ? x[c] : 0.f;
          s = i == 0 ? f * f : std::fmaf(f, f, s);
          v[size_t(c)] = c < columns && norm != nullptr ? f * norm[c] : f;
          peak = std::max(peak, std::fabs(v[size_t(c)]));
        }
        lane[l] = s;
      }
      for (int o = 1; o < 32; o <<= 1) {
        float next[32];
        for (int l = 0; l < 32; ++l) next[l] = lane[l] + lane[l ^ o];
        std::memcpy(lane, next, sizeof lane);
      }
      squares.push_back(lane[0]);
      dy.push_back(peak * (1.f / 2047.f));
      const float inverse = peak > 1e-30f ? 2047.f / peak : 0.f;
      for (int i = g * 256; i < g * 256 + 256; ++i) q[size_t(i)] = int(std::nearbyintf(v[size_t(i)] * inverse));
    }
    if (norm == nullptr) return;
    float s = squares[0];
    for (size_t i = 1; i < squares.size(); ++i) s += squares[i];
    rms = 1.f / std::sqrt(s / float(columns) + epsilon);
  }
};

/// Sum of products of one output, in the order of linear.h (bits), and in double from the same integers.
struct HostDot {
  float exact;
  double real;
};
inline HostDot host_dot(const TestMatrix& w, int row, const HostRow& x) {
  const quant::Format& f = *w.format;
  const int tiles = (w.columns + 255) / 256;
  double real = 0;
  float total = 0, panel = 0, slice = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    const float dy = x.dy[size_t(tile)];
    const int* q = x.q.data() + tile * 256;
    if (tile % kSliceTiles == 0) slice = 0;
    if (f.block_size == 256) {
      quant::IntBlock b;
      f.decode_ints(w.block(row, tile), &b);
      int64_t one = 0, two = 0;
      for (int k = 0; k < 256; ++k) {
        one += int64_t(b.scale[k / f.sub_block]) * (b.q[k] - f.offset) * q[k];
        two += int64_t(b.min[k / f.sub_block]) * q[k];
      }
      const float d = half_to_float(b.d), dmin = half_to_float(b.dmin);
      if (f.has_min) slice = std::fmaf(dy, -dmin * float(two), slice);
      slice = std::fmaf(dy, d * float(one), slice);
      real += double(dy) * (double(d) * double(one) - double(dmin) * double(two));
    } else {
      float d[8] = {}, m[8] = {}, products[8] = {}, sums[8] = {};
      for (int b = 0; b < 8 && tile * 8 + b < w.columns / 32; ++b) {
        quant::IntBlock block;
        f.decode_ints(w.block(row, tile * 8 + b), &block);
        int64_t product = 0, sum = 0;
        for (int k = 0; k < 32; ++k) {
          product += int64_t(block.q[k] - f.offset) * q[b * 32 + k];
          sum += q[b * 32 + k];
        }
        d[b] = half_to_float(block.d), m[b] = f.has_min ? -half_to_float(block.dmin) : 0.f;
        products[b] = float(product), sums[b] = float(sum);
        real += double(dy) * (double(d[b]) * double(product) + double(m[b]) * double(sum));
      }
      float s[4];
      for (int t = 0; t < 4; ++t) {
        s[t] = std::fmaf(d[t + 4], products[t + 4], d[t] * products[t]);
        if (f.has_min) s[t] = std::fmaf(m[t + 4], sums[t + 4], std::fmaf(m[t], sums[t], s[t]));
      }
      slice = std::fmaf(dy, (s[0] + s[1]) + (s[2] + s[3]), slice);
    }
    if (tile % kSliceTiles == kSliceTiles - 1 || tile + 1 == tiles) {
      const int index = tile / kSliceTiles;
      panel = index % kPanelSlices == 0 ? slice : panel + slice;
      if (index % kPanelSlices == kPanelSlices - 1 || tile + 1 == tiles)
        total = index < kPanelSlices ? panel : total + panel;
    }
  }
  return {total, real};
}

}  // namespace ponder::backend::cuda::test
