// How weights lie in the card's memory, and how they get there. One layout serves 1 row and 2,048 rows.
//
// A quantised matrix is cut into tiles of 16 rows x 256 columns, stored row tile after row tile, each row tile's tiles
// in order of columns; missing rows and columns are zeros. A tile has as many bytes as its blocks have in the file:
//
//   quants   low four bits (8-bit formats: all bits of 4 of the 8 blocks of 32 columns; then the other 4)
//            4 parts of 512 B; part j holds blocks 2j (low half of each byte) and 2j + 1 (high half)
//            (8-bit: 8 parts, part j holds block j)
//            in a part, lane l = 4g + t of a warp owns 16 B = 4 words of 4 quants each:
//                x: row g,     columns 4t .. 4t + 3          y: row g + 8, same columns
//                z: row g,     columns 16 + 4t .. + 3        w: row g + 8, same columns
//            which is the A fragment of mma.m16n8k32 after one AND (and a shift)
//   high     Q5: 512 B: lane l owns 4 words x, y, z, w as above; bit 8 i + b is the fifth bit of its quant i in block b
//            Q6: 2 parts of 512 B; part n serves blocks 4n .. 4n + 3: bits 8 i + 2 f, + 1 are the two high bits of
//            quant i in block 4n + f
//   scales   Q4_K, Q5_K: 16 rows x 16 B: half d, half dmin, then three words whose byte t serves blocks t and t + 4:
//                low four bits of the scales (t: low half, t + 4: high half); the same of the minimums; the two high
//                bits of scale t, scale t + 4, minimum t, minimum t + 4
//            Q6_K: 16 rows x 16 B: int8 scales, byte 4t + s is sub-block 4s + t; then 16 halves d
//            blocks of 32: 16 rows x 8 halves d; then, for Q4_1 and Q5_1, 16 rows x 8 halves m
//
// The quants of part order follow the canonical form of quant/format.h: block b of a tile is columns 32b .. 32b + 31.
// Q4_K, Q6_K, Q5_x, Q4_x hold unsigned q; Q8_0 holds signed bytes.
//
// F16, BF16: a tile is 16 steps of 16 columns, 512 B each; in a step, lane l = 4g + t owns 16 B, two columns a word:
//                x: row g,     columns 4t, 4t + 1            y: row g + 8, same columns
//                z: row g,     columns 4t + 2, + 3           w: row g + 8, same columns
//            which is the A fragment of mma.m16n8k16, with the columns of a step in an order of our own
// F32: row-major, rows padded to 16, columns to 256, with zeros.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "backend/cuda/launch.h"

namespace ponder::backend::cuda {

constexpr int kTileRows = 16;
constexpr int kTileColumns = 256;

enum class TileKind : uint8_t { q4_k, q5_k, q6_k, q4_0, q4_1, q5_0, q5_1, q8_0, f16, bf16, f32 };

__host__ __device__ constexpr bool is_float(TileKind kind) { return kind >= TileKind::f16; }
__host__ __device__ constexpr bool is_half(TileKind kind) { return kind == TileKind::f16 || kind == TileKind::bf16; }

/// Bytes of one tile (for float kinds: of 16 rows x 256 columns).
__host__ __device__ constexpr int tile_bytes(TileKind kind) {
  switch (kind) {
    case TileKind::q4_k:
    case TileKind::q4_0:
      return 2304;
    case TileKind::q4_1:
      return 2560;
    case TileKind::q5_k:
    case TileKind::q5_0:
      return 2816;
    case TileKind::q5_1:
      return 3072;
    case TileKind::q6_k:
      return 3360;
    case TileKind::q8_0:
      return 4352;
    case TileKind::f16:
    case TileKind::bf16:
      return 8192;
    case TileKind::f32:
      return 16384;
  }
  return 0;
}

/// Of a ggml type number (quant::Type); false when the card has no layout for it.
bool tile_kind(uint32_t ggml_type, TileKind* kind);

/// A matrix on the device: `rows` outputs of `columns` inputs.
struct Matrix {
  const uint8_t* data = nullptr;  ///< packed_bytes(...), 256-byte aligned
  TileKind kind = TileKind::q4_k;
  int rows = 0, columns = 0;

  __host__ __device__ int row_tiles() const { return (rows + kTileRows - 1) / kTileRows; }
  __host__ __device__ int column_tiles() const { return (columns + kTileColumns - 1) / kTileColumns; }
};

/// Device memory that a packed matrix takes.
size_t packed_bytes(TileKind kind, int64_t rows, int64_t columns);

/// Packs `rows` whole rows of a tensor as they stand in a GGUF file (`raw`, on the device) into `packed`, beginning at
/// row `first_row` (a multiple of 16) of a matrix of `columns` columns; so a big tensor can be sent in pieces. `rows`
/// is a multiple of 16 except in the last piece. Returns the launch's error.
cudaError_t repack(TileKind kind, const uint8_t* raw, int64_t rows, int64_t columns, int64_t first_row, uint8_t* packed,
                   cudaStream_t stream);

/// Rows of a packed matrix as floats, as quant::Format::dequantize gives them times `scale`: the token embedding.
/// out[i][columns] = row ids[i] (device memory); an id outside the matrix gives zeros.
cudaError_t dequantize_rows(const Matrix& matrix, const int32_t* ids, int n, float scale, float* out,
                            int64_t out_stride, const Launch& launch);

}  // namespace ponder::backend::cuda
