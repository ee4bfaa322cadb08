// Scratch of a linear layer of more than one row, and the kernel that fills it: the rows normed and quantised.
#pragma once

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {

/// Views of LinearArgs::scratch. All arrays are [row][group of 256 columns].
struct LinearScratch {
  uint8_t* planes;      ///< plane_bytes(kind of weights) each
  GroupSumsMany* sums;  ///< (integers)
  float *dy, *squares;  ///< squares: sums of squares of x, for the norm
  float* panels;        ///< [panel][row][16 * row tiles]: sums of panels, where they are spread over blocks
  size_t bytes;         ///< of all but the panels
};

inline LinearScratch linear_scratch(void* base, int rows, int tiles) {
  LinearScratch s = {};
  size_t at = 0;
  const auto take = [&](size_t bytes) {
    uint8_t* p = static_cast<uint8_t*>(base) + at;
    at += (bytes + 255) / 256 * 256;
    return p;
  };
  const size_t n = size_t(rows) * size_t(tiles);
  s.planes = take(n * kMostPlaneBytes);
  s.sums = reinterpret_cast<GroupSumsMany*>(take(n * sizeof(GroupSumsMany)));
  s.dy = reinterpret_cast<float*>(take(n * 4));
  s.squares = reinterpret_cast<float*>(take(n * 4));
  s.bytes = at;
  s.panels = reinterpret_cast<float*>(take(0));
  return s;
}

// The same for the prefill kernel of compute capability 9.0 (linear_wgmma.cu), which wants the rows as its matrix products
// read them. An image of 128 rows x 256 columns, byte by byte as it lies in shared memory:
//   planes high, low               [plane][16 chunks of 16 columns][128 rows][16 bytes]
//   digits of the blocks' sums     [2][128 rows][16 bytes]: 8 x u0, 8 x u1; 8 x u2, 8 x l; sum = 256 (u0 + u1 + u2) + l
//   scales                         [128 rows] floats
constexpr int kWideRows = 128;
constexpr int kWidePlane = kWideRows * kTileColumns;
constexpr int kWideDigits = 2 * kWideRows * 16;
constexpr int kWidePlanes = 2;
constexpr int kWideImage = kWidePlanes * kWidePlane + kWideDigits + kWideRows * 4;
constexpr int kWideLeastRows = 65;  ///< for fewer rows linear_gemm() is used
constexpr int kWideMostBlocks = 144;

struct WideScratch {
  uint8_t* images;  ///< [block of 128 rows][group of 256 columns]
  float* squares;   ///< [row][group]
  float4* totals;   ///< [thread block][16][256]: sums of panels, private to a thread
  size_t bytes;
};

inline WideScratch wide_scratch(void* base, int rows, int tiles) {
  WideScratch s = {};
  size_t at = 0;
  const auto take = [&](size_t bytes) {
    uint8_t* p = static_cast<uint8_t*>(base) + at;
    at += (bytes + 255) / 256 * 256;
    return p;
  };
  s.images = take(size_t((rows + kWideRows - 1) / kWideRows) * size_t(tiles) * kWideImage);
  s.squares = reinterpret_cast<float*>(take(size_t(rows) * size_t(tiles) * 4));
  s.totals = reinterpret_cast<float4*>(take(size_t(kWideMostBlocks) * 16 * 256 * sizeof(float4)));
  s.bytes = at;
  return s;
}

/// Bytes that a launch of so many rows uses at most before LinearScratch::panels.
inline size_t linear_scratch_used(int rows, int tiles) {
  const size_t wide = rows < kWideLeastRows ? 0 : wide_scratch(nullptr, rows, tiles).bytes;
  const size_t plain = linear_scratch(nullptr, rows, tiles).bytes;
  return wide > plain ? wide : plain;
}

/// Norms (weights only) and quantises all rows of args into images; rows that fill the last image are zeros.
cudaError_t quantize_wide(const LinearArgs& args, const WideScratch& scratch, const Launch& launch);
/// Norms (weights only: the factor comes at the end) all rows of args and quantises or splits them, as args' weights need.
cudaError_t quantize_rows(const LinearArgs& args, const LinearScratch& scratch, const Launch& launch);

}  // namespace ponder::backend::cuda
