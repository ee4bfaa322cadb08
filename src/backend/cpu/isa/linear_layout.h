// The bytes that the linear kernels read: panels of weights, records of activations, and the form
// both unpacked panels and the simpler kernels work from. Plain structs only; no functions that
// could leave an instruction-set unit.
//
// Panel: 16 rows, groups of 256 columns in order, ascending addresses. A "vector" is 64 bytes: byte
// 4r + b belongs to row r; vector i of a block of 32 columns holds columns 4i + b. n = blocks of 32
// in the group (8, fewer in the last).
//   nibbles       4 vectors a block: low half = vector g, high half = vector g + 4 (g = 0..3)
//   fifth bits    1 vector a block, after the nibbles: bit i = bit 4 of vector i
//   Q4_0  n x d[16] half                       | n x nibbles
//   Q4_1  n x d[16] half, n x m[16] half       | n x nibbles
//   Q5_0  as Q4_0, Q5_1 as Q4_1, each block     nibbles + fifth bits
//   Q8_0  n x d[16] half                       | n x 8 vectors of q + 128
//         (what stands before the bar is padded to 64 bytes)
//   Q4_K  d[16], dmin[16] half, A[16], B[16], C[16] dwords | 8 x nibbles
//         In each 16-bit half h of a row's dwords (sc, mn: its 8 scales and mins of 6 bits):
//           A = sc[h] | sc[2+h] << 6 | (mn[4+h] & 15) << 12
//           B = mn[h] | mn[2+h] << 6 | (mn[4+h] >> 4) << 12 | (mn[6+h] >> 4) << 14
//           C = sc[4+h] | sc[6+h] << 6 | (mn[6+h] & 15) << 12
//         so that the mins come out as pairs of int16 by one shift and one and.
//   Q5_K  as Q4_K, each block nibbles + fifth bits
//   Q6_K  in front of the panel: d[16] half of every group, padded to 64 bytes. Each group: 16 x
//   scale[16] int8, then
//         per 16 columns three vectors: vectors 0, 1, 2 in bits 0-5 of each, vector 3 in their bits 6-7 (bits
//         0-1, 2-3, 4-5)
//   F16, BF16, F32  column k: 16 values
// Everything is as large as in the file but for paddings of less than 64 bytes a panel or last
// group.
#pragma once

#include <cstdint>

#include "backend/cpu/linear_types.h"

namespace ponder::backend::cpu::isa {

// ---- activations
// ---------------------------------------------------------------------------------------------------

/// 256 columns of W rows ("columns" of the kernels), interleaved so that four consecutive values of
/// a row are one broadcast and neighbouring rows lie side by side. Blocks past a row's end are
/// zero.
template <int W>
struct RecordBase {
  int8_t q[64][W][4];          ///< i14x256: the high plane, x = 128 * high + low
  float scale[8][W];           ///< per 32; i14x256: [0] for all
  float sum[8][W];             ///< sum of the quantised values of a block, as float (residual included)
  int32_t neg16[16][W];        ///< minus the integer sum of 16, times Q6_K's offset of 32: only k16 reads it
  int32_t neg32[8][W];         ///< minus the integer sum of 32
  int16_t sum_pairs[4][W][2];  ///< `sum` of blocks 2p, 2p + 1 in units of sum_scale
  float sum_scale[W];
};

template <int W, Form F>
struct RecordExtra {};
template <int W>
struct RecordExtra<W, Form::i8x32r1> {
  int8_t residual[8][W][4];
  int32_t residual_neg[2][W];  ///< minus the integer sums of its halves
  float residual_scale[W];
  int32_t residual_block[W];  ///< which block of 32
};
template <int W>
struct RecordExtra<W, Form::i14x256> {
  int8_t low[64][W][4];
};

template <int W, Form F>
struct alignas(64) Record : RecordBase<W>, RecordExtra<W, F> {};

// ---- weights
// -------------------------------------------------------------------------------------------------------

/// Vectors of quants of one block of 32 columns.
static constexpr int block_vectors(Family f) {
  switch (f) {
    case Family::q4_0:
    case Family::q4_1:
    case Family::q4_k:
      return 4;
    case Family::q5_0:
    case Family::q5_1:
    case Family::q5_k:
      return 5;
    case Family::q6_k:
      return 6;
    default:
      return 8;
  }
}
static constexpr bool has_block_min(Family f) { return f == Family::q4_1 || f == Family::q5_1; }
/// Bytes in front of the quants of a group of n blocks.
static constexpr int64_t head_bytes(Family f, int64_t n) {
  switch (f) {
    case Family::q4_k:
    case Family::q5_k:
    case Family::q6_k:
      return 256;
    default:
      return ((has_block_min(f) ? 64 : 32) * n + 63) / 64 * 64;
  }
}
static constexpr int64_t group_bytes(Family f, int64_t n) { return head_bytes(f, n) + n * block_vectors(f) * 64; }
/// Bytes in front of all groups of a panel.
static constexpr int64_t front_bytes(Family f, int64_t columns) {
  return f == Family::q6_k ? (columns / 256 * 32 + 63) / 64 * 64 : 0;
}
static constexpr int64_t int_panel_bytes(Family f, int64_t columns) {
  const int64_t tail = columns % 256 / 32;
  return front_bytes(f, columns) + columns / 256 * group_bytes(f, 8) + (tail ? group_bytes(f, tail) : 0);
}

/// What the arithmetic needs to know of a family: how scales, offset and mins enter.
enum class Kind : uint8_t {
  k,    ///< Q4_K, Q5_K: integer scales and mins per 32 under d and dmin
  k16,  ///< Q6_K: signed integer scales per 16 under d, offset 32
  b4,   ///< Q4_0: d per 32, offset 8
  b5,   ///< Q5_0: offset 16
  b8,   ///< Q8_0: offset 128
  bm,   ///< Q4_1, Q5_1: d and m per 32
};
static constexpr Kind kind_of(Family f) {
  switch (f) {
    case Family::q4_k:
    case Family::q5_k:
      return Kind::k;
    case Family::q6_k:
      return Kind::k16;
    case Family::q4_0:
      return Kind::b4;
    case Family::q5_0:
      return Kind::b5;
    case Family::q8_0:
      return Kind::b8;
    default:
      return Kind::bm;
  }
}
static constexpr int offset_shift(Kind k) {  ///< log2 of the offset; -1: none
  switch (k) {
    case Kind::k16:
      return 5;
    case Kind::b4:
      return 3;
    case Kind::b5:
      return 4;
    case Kind::b8:
      return 7;
    default:
      return -1;
  }
}

/// A group of 256 columns of a panel with one byte a weight and scales as floats.
struct alignas(64) UnpackedGroup {
  uint8_t q[64][16][4];
  float scale[16][16];       ///< per 16 (k16) or per 32; of k and k16 without d
  float min[8][16];          ///< bm: m per 32
  int32_t min_pairs[4][16];  ///< k: mins of blocks 2p (low half) and 2p + 1
  float d[16], dmin[16];     ///< k, k16
};

}  // namespace ponder::backend::cpu::isa
