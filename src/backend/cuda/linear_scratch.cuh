// Scratch of a linear layer of more than one row, and the kernel that fills it: the rows normed and quantised.
#pragma once

#include "backend/cuda/linear_parts.cuh"
#include "backend/cuda/quantize.cuh"

namespace ponder::backend::cuda {

/// Views of LinearArgs::scratch. All arrays are [row][group of 256 columns].
struct LinearScratch {
  uint8_t* planes;  ///< kPlaneBytes each
  GroupSumsMany* sums;
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
  s.planes = take(n * kPlaneBytes);
  s.sums = reinterpret_cast<GroupSumsMany*>(take(n * sizeof(GroupSumsMany)));
  s.dy = reinterpret_cast<float*>(take(n * 4));
  s.squares = reinterpret_cast<float*>(take(n * 4));
  s.bytes = at;
  s.panels = reinterpret_cast<float*>(take(0));
  return s;
}

/// Norms (weights only: the factor comes at the end) and quantises all rows of args.
cudaError_t quantize_rows(const LinearArgs& args, const LinearScratch& scratch, const Launch& launch);

}  // namespace ponder::backend::cuda
