// From the file's blocks to the card's tiles (layout.h), and back to floats for the token embedding. One thread block
// packs one tile: it decodes the 16 blocks (rows) into quants in shared memory, one byte each, and writes the tile in
// the order that the matrix instructions read. Speed hardly matters here: the copy over the bus is slower.
#include "backend/cuda/layout.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "backend/cuda/launch.h"
#include "backend/cuda/ptx.cuh"
#include "quant/format.h"

namespace ponder::backend::cuda {
namespace {

constexpr int kThreads = 128;

__host__ __device__ constexpr int block_columns(TileKind kind) { return kind <= TileKind::q6_k ? 256 : 32; }
__host__ __device__ constexpr int block_bytes(TileKind kind) {
  constexpr int bytes[] = {144, 176, 210, 18, 20, 22, 24, 34, 2, 2, 4};
  return bytes[int(kind)];
}

/// One tile on its way: quants by [row][column], and the scales as they go into the tile.
struct Staged {
  uint8_t q[kTileRows][kTileColumns];
  uint16_t d[kTileRows][8], m[kTileRows][8];  // K-quants: [0] is d and dmin
  uint8_t scale[kTileRows][16], min[kTileRows][8];
};

__device__ uint16_t load16(const uint8_t* p) { return uint16_t(p[0] | (p[1] << 8)); }

/// 6-bit scale and minimum j of Q4_K and Q5_K (quant/k_blocks.h, pack_scales).
__device__ void unpack_scale(const uint8_t* packed, int j, uint8_t* scale, uint8_t* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = uint8_t((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    *min = uint8_t((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

/// Quant of column i of a block, in the stored sense (unsigned; Q8_0 signed bytes). Layouts: quant/formats/.
__device__ uint8_t quant_of(TileKind kind, const uint8_t* b, int i) {
  const int nibble_k = i / 64 * 32 + i % 32;  // K-quants: byte of column i among the low bits
  const bool high_k = (i / 32) % 2 != 0;
  switch (kind) {
    case TileKind::q4_k:
      return high_k ? b[16 + nibble_k] >> 4 : b[16 + nibble_k] & 15;
    case TileKind::q5_k: {
      const int low = high_k ? b[48 + nibble_k] >> 4 : b[48 + nibble_k] & 15;
      return uint8_t(low | (((b[16 + i % 32] >> (i / 32)) & 1) << 4));
    }
    case TileKind::q6_k: {
      const int half = i / 128, k = i % 128;
      const uint8_t byte = b[64 * half + k % 64];
      return uint8_t((k < 64 ? byte & 15 : byte >> 4) | (((b[128 + 32 * half + k % 32] >> (2 * (k / 32))) & 3) << 4));
    }
    case TileKind::q4_0:
      return i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4;
    case TileKind::q4_1:
      return i < 16 ? b[4 + i] & 15 : b[4 + i - 16] >> 4;
    case TileKind::q5_0:
      return uint8_t((i < 16 ? b[6 + i] & 15 : b[6 + i - 16] >> 4) | (((b[2 + i / 8] >> (i % 8)) & 1) << 4));
    case TileKind::q5_1:
      return uint8_t((i < 16 ? b[8 + i] & 15 : b[8 + i - 16] >> 4) | (((b[4 + i / 8] >> (i % 8)) & 1) << 4));
    case TileKind::q8_0:
      return b[2 + i];
    default:
      return 0;
  }
}

__device__ void stage_scales(TileKind kind, const uint8_t* b, int row, int block, Staged& s) {
  switch (kind) {
    case TileKind::q4_k:
    case TileKind::q5_k:
      s.d[row][0] = load16(b);
      s.m[row][0] = load16(b + 2);
      for (int j = 0; j < 8; ++j) unpack_scale(b + 4, j, &s.scale[row][j], &s.min[row][j]);
      break;
    case TileKind::q6_k:
      for (int j = 0; j < 16; ++j) s.scale[row][j] = b[192 + j];
      s.d[row][0] = load16(b + 208);
      break;
    case TileKind::q4_1:
    case TileKind::q5_1:
      s.m[row][block] = load16(b + 2);
      [[fallthrough]];
    default:
      s.d[row][block] = load16(b);
  }
}

__device__ void write_scales(TileKind kind, const Staged& s, int row, uint8_t* out) {
  auto put16 = [](uint8_t* p, uint16_t v) { p[0] = uint8_t(v), p[1] = uint8_t(v >> 8); };
  if (kind == TileKind::q4_k || kind == TileKind::q5_k) {
    uint8_t* h = out + row * 16;
    put16(h, s.d[row][0]);
    put16(h + 2, s.m[row][0]);
    for (int t = 0; t < 4; ++t) {
      const uint8_t a = s.scale[row][t], b = s.scale[row][t + 4], m = s.min[row][t], n = s.min[row][t + 4];
      h[4 + t] = uint8_t((a & 15) | ((b & 15) << 4));
      h[8 + t] = uint8_t((m & 15) | ((n & 15) << 4));
      h[12 + t] = uint8_t((a >> 4) | ((b >> 4) << 2) | ((m >> 4) << 4) | ((n >> 4) << 6));
    }
  } else if (kind == TileKind::q6_k) {
    for (int j = 0; j < 16; ++j) out[row * 16 + 4 * (j % 4) + j / 4] = s.scale[row][j];
    put16(out + 256 + row * 2, s.d[row][0]);
  } else {
    for (int b = 0; b < 8; ++b) put16(out + row * 16 + b * 2, s.d[row][b]);
    if (kind == TileKind::q4_1 || kind == TileKind::q5_1)
      for (int b = 0; b < 8; ++b) put16(out + 256 + row * 16 + b * 2, s.m[row][b]);
  }
}

__host__ __device__ constexpr bool has_fifth_bit(TileKind k) {
  return k == TileKind::q5_k || k == TileKind::q5_0 || k == TileKind::q5_1;
}

/// grid: (column tiles, row tiles of this piece).
__global__ void __launch_bounds__(kThreads)
    repack_tile(TileKind kind, const uint8_t* raw, int64_t rows, int64_t columns, int64_t first_tile, uint8_t* packed) {
  __shared__ Staged s;
  const int tid = threadIdx.x, column_tiles = gridDim.x;
  for (int i = tid; i < int(sizeof(Staged) / 4); i += kThreads) reinterpret_cast<uint32_t*>(&s)[i] = 0;
  __syncthreads();

  const int per_block = block_columns(kind), bytes = block_bytes(kind);
  const int64_t row_bytes = columns / per_block * bytes;
  const int zero = kind == TileKind::q4_0 ? 8 : kind == TileKind::q5_0 ? 16 : kind == TileKind::q6_k ? 32 : 0;
  for (int i = tid; i < kTileRows * kTileColumns; i += kThreads) {
    const int r = i / kTileColumns, c = i % kTileColumns;
    const int64_t row = int64_t(blockIdx.y) * kTileRows + r, column = int64_t(blockIdx.x) * kTileColumns + c;
    if (row >= rows || column >= columns) {
      s.q[r][c] = uint8_t(zero);
      continue;
    }
    const uint8_t* block = raw + row * row_bytes + column / per_block * bytes;
    s.q[r][c] = quant_of(kind, block, int(column % per_block));
    if (column % per_block == 0) stage_scales(kind, block, r, c / 32, s);
  }
  __syncthreads();

  uint8_t* out = packed + ((first_tile + blockIdx.y) * column_tiles + blockIdx.x) * tile_bytes(kind);
  const bool bytewise = kind == TileKind::q8_0;
  const int parts = bytewise ? 8 : 4;
  for (int i = tid; i < parts * 512; i += kThreads) {  // byte i of the quants
    const int part = i / 512, lane = i % 512 / 16, word = i % 16 / 4, byte = i % 4;
    const int row = lane / 4 + (word & 1) * 8, column = (word >> 1) * 16 + lane % 4 * 4 + byte;
    out[i] = bytewise ? s.q[row][part * 32 + column]
                      : uint8_t((s.q[row][part * 64 + column] & 15) | ((s.q[row][part * 64 + 32 + column] & 15) << 4));
  }
  uint8_t* next = out + parts * 512;
  if (has_fifth_bit(kind)) {
    for (int i = tid; i < 512; i += kThreads) {
      const int lane = i / 16, word = i % 16 / 4, byte = i % 4;
      const int row = lane / 4 + (word & 1) * 8, column = (word >> 1) * 16 + lane % 4 * 4 + byte;
      uint8_t bits = 0;
      for (int b = 0; b < 8; ++b) bits |= uint8_t(((s.q[row][b * 32 + column] >> 4) & 1) << b);
      next[i] = bits;
    }
    next += 512;
  }
  if (kind == TileKind::q6_k) {
    for (int i = tid; i < 1024; i += kThreads) {
      const int part = i / 512, lane = i % 512 / 16, word = i % 16 / 4, byte = i % 4;
      const int row = lane / 4 + (word & 1) * 8, column = (word >> 1) * 16 + lane % 4 * 4 + byte;
      uint8_t bits = 0;
      for (int f = 0; f < 4; ++f) bits |= uint8_t((s.q[row][(part * 4 + f) * 32 + column] >> 4) << (2 * f));
      next[i] = bits;
    }
    next += 1024;
  }
  if (tid < kTileRows) write_scales(kind, s, tid, next);
}

/// F16 and BF16; grid as above.
__global__ void __launch_bounds__(kThreads)
    repack_halves(const uint8_t* raw, int64_t rows, int64_t columns, int64_t first_tile, uint8_t* packed) {
  uint8_t* out = packed + ((first_tile + blockIdx.y) * gridDim.x + blockIdx.x) * int64_t(tile_bytes(TileKind::f16));
  for (int i = threadIdx.x; i < kTileRows * kTileColumns; i += kThreads) {  // number i of the tile
    const int step = i / 256, lane = i % 256 / 8, word = i % 8 / 2;
    const int64_t row = int64_t(blockIdx.y) * kTileRows + lane / 4 + (word & 1) * 8,
                  column = int64_t(blockIdx.x) * kTileColumns + step * 16 + lane % 4 * 4 + (word >> 1) * 2 + i % 2;
    reinterpret_cast<uint16_t*>(out)[i] =
        row < rows && column < columns ? load16(raw + (row * columns + column) * 2) : uint16_t(0);
  }
}

__global__ void copy_float_rows(const uint8_t* raw, int64_t rows, int64_t columns, int64_t padded, uint8_t* packed) {
  constexpr int element = sizeof(float);
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < padded * element; i += blockDim.x)
    packed[row * padded * element + i] = row < rows && i < columns * element ? raw[row * columns * element + i] : 0;
}

/// One weight of a packed matrix, with the roundings of quant::Format::dequantize.
__device__ float weight_at(const Matrix& m, int row, int column) {
  const int tiles = m.column_tiles();
  if (m.kind == TileKind::f32)
    return reinterpret_cast<const float*>(m.data)[int64_t(row) * tiles * kTileColumns + column];
  const uint8_t* tile = m.data + (int64_t(row / kTileRows) * tiles + column / kTileColumns) * tile_bytes(m.kind);
  const int r = row % kTileRows, c = column % kTileColumns, b = c / 32, k = c % 32;
  if (is_half(m.kind)) {
    const int i = c / 16 * 256 + (r % 8 * 4 + c % 16 / 4) * 8 + (r / 8 + c % 4 / 2 * 2) * 2 + c % 2;
    if (m.kind == TileKind::f16) return __half2float(reinterpret_cast<const __half*>(tile)[i]);
    return __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(tile)[i]);
  }
  const int lane = r % 8 * 4 + k % 16 / 4, word = (r / 8) | (k / 16 * 2), at = lane * 16 + word * 4 + k % 4;
  const auto half_at = [&](const uint8_t* p) { return __half2float(*reinterpret_cast<const __half*>(p)); };
  if (m.kind == TileKind::q8_0)
    return __fmul_rn(float(int8_t(tile[b * 512 + at])), half_at(tile + 4096 + r * 16 + b * 2));
  int q = tile[b / 2 * 512 + at];
  q = b % 2 ? q >> 4 : q & 15;
  const uint8_t* next = tile + 2048;
  if (has_fifth_bit(m.kind)) q |= ((next[at] >> b) & 1) << 4, next += 512;
  if (m.kind == TileKind::q6_k) {
    q |= ((next[b / 4 * 512 + at] >> (2 * (b % 4))) & 3) << 4, next += 1024;
    const int j = c / 16;
    const float step = __fmul_rn(half_at(next + 256 + r * 2), float(int8_t(next[r * 16 + 4 * (j % 4) + j / 4])));
    return __fmul_rn(step, float(q - 32));
  }
  if (m.kind == TileKind::q4_k || m.kind == TileKind::q5_k) {
    const uint8_t* h = next + r * 16;
    const int t = b % 4, up = b / 4;
    const int scale = ((h[4 + t] >> (4 * up)) & 15) | (((h[12 + t] >> (2 * up)) & 3) << 4);
    const int min = ((h[8 + t] >> (4 * up)) & 15) | (((h[12 + t] >> (4 + 2 * up)) & 3) << 4);
    return __fsub_rn(__fmul_rn(__fmul_rn(half_at(h), float(scale)), float(q)), __fmul_rn(half_at(h + 2), float(min)));
  }
  const float d = half_at(next + r * 16 + b * 2);
  if (m.kind == TileKind::q4_0) return __fmul_rn(d, float(q - 8));
  if (m.kind == TileKind::q5_0) return __fmul_rn(d, float(q - 16));
  return __fadd_rn(__fmul_rn(d, float(q)), half_at(next + 256 + r * 16 + b * 2));
}

__global__ void dequantize_kernel(Matrix m, const int32_t* ids, float scale, float* out, int64_t out_stride) {
  launch_dependents();
  wait_for_previous_kernel();
  const int row = ids[blockIdx.y];
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= m.columns) return;
  out[int64_t(blockIdx.y) * out_stride + column] =
      row >= 0 && row < m.rows ? __fmul_rn(weight_at(m, row, column), scale) : 0.f;
}

}  // namespace

bool tile_kind(uint32_t ggml_type, TileKind* kind) {
  switch (quant::Type(ggml_type)) {
    case quant::Type::q4_k:
      *kind = TileKind::q4_k;
      return true;
    case quant::Type::q5_k:
      *kind = TileKind::q5_k;
      return true;
    case quant::Type::q6_k:
      *kind = TileKind::q6_k;
      return true;
    case quant::Type::q4_0:
      *kind = TileKind::q4_0;
      return true;
    case quant::Type::q4_1:
      *kind = TileKind::q4_1;
      return true;
    case quant::Type::q5_0:
      *kind = TileKind::q5_0;
      return true;
    case quant::Type::q5_1:
      *kind = TileKind::q5_1;
      return true;
    case quant::Type::q8_0:
      *kind = TileKind::q8_0;
      return true;
    case quant::Type::f16:
      *kind = TileKind::f16;
      return true;
    case quant::Type::bf16:
      *kind = TileKind::bf16;
      return true;
    case quant::Type::f32:
      *kind = TileKind::f32;
      return true;
    default:
      return false;
  }
}

size_t packed_bytes(TileKind kind, int64_t rows, int64_t columns) {
  return size_t((rows + kTileRows - 1) / kTileRows) * size_t((columns + kTileColumns - 1) / kTileColumns) *
         size_t(tile_bytes(kind));
}

cudaError_t repack(TileKind kind, const uint8_t* raw, int64_t rows, int64_t columns, int64_t first_row, uint8_t* packed,
                   cudaStream_t stream) {
  if (rows <= 0 || columns <= 0 || first_row % kTileRows != 0 ||
      columns % (is_float(kind) ? 1 : block_columns(kind)) != 0)
    return cudaErrorInvalidValue;
  const int64_t row_tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t column_tiles = (columns + kTileColumns - 1) / kTileColumns, first_tile = first_row / kTileRows;
  if (kind == TileKind::f32) {
    const int64_t padded = column_tiles * kTileColumns;
    copy_float_rows<<<unsigned(row_tiles * kTileRows), 256, 0, stream>>>(
        raw, rows, columns, padded, packed + first_row * padded * int64_t(sizeof(float)));
    return cudaGetLastError();
  }
  constexpr int64_t kMaxGridY = 65535;
  for (int64_t y = 0; y < row_tiles; y += kMaxGridY) {
    const dim3 grid(unsigned(column_tiles), unsigned(min(kMaxGridY, row_tiles - y)));
    const int64_t blocks = is_half(kind) ? columns : columns / block_columns(kind), left = rows - y * kTileRows;
    const uint8_t* from = raw + y * kTileRows * blocks * block_bytes(kind);
    if (is_half(kind))
      repack_halves<<<grid, kThreads, 0, stream>>>(from, left, columns, first_tile + y, packed);
    else
      repack_tile<<<grid, kThreads, 0, stream>>>(kind, from, left, columns, first_tile + y, packed);
  }
  return cudaGetLastError();
}

cudaError_t dequantize_rows(const Matrix& matrix, const int32_t* ids, int n, float scale, float* out,
                            int64_t out_stride, const Launch& launch) {
  const dim3 grid(unsigned((matrix.columns + 255) / 256), unsigned(n));
  return launch_kernel(dequantize_kernel, grid, 256, 0, launch, matrix, ids, scale, out, out_stride);
}

}  // namespace ponder::backend::cuda
