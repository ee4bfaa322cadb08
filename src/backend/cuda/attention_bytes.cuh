// K and V as int8 (KV format q8), numbers as docs/numerics.md: groups of 32 of a head have one half as scale. They come
// into shared memory as they lie in the page and are expanded there to the halves that the attention kernels read, so
// that the kernels' products are the same for both formats.
//
// A part (K or V) of a head in a page: [head_dim / 8][64 tokens][8 bytes], then scales [head_dim / 32][64 tokens].
//
// Keys of layers with a bias are stored without it (it would take all of int8's range) and get it when they are expanded:
// the bias rotated by the token's position. Position = page start + place, so that is the bias rotated by the place (a
// table of 64 places, made at load: key_bias, [head_dim / 8][64 places][8 halves] per KV head) rotated by the page's
// start, in halves like K itself: own place * cos + fellow's place * sin.
#pragma once

#include "backend/cuda/attention_rope.cuh"

namespace ponder::backend::cuda {

/// 8 numbers of one token as stored; `scale` is that of their group.
struct ByteChunk {
  uint2 numbers;
  __half scale;
};

/// Of numbers 8 lane .. + 7 of a head (zeros past its end); the whole warp takes part.
__device__ __forceinline__ ByteChunk to_bytes(const float (&v)[8]) {
  float peak = 0;
  bool finite = true;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    peak = fmaxf(peak, fabsf(v[i]));
    finite = finite && fabsf(v[i]) <= 3.402823466e38f;
  }
#pragma unroll
  for (int o = 1; o < 4; o <<= 1) {  // four lanes are a group
    peak = fmaxf(peak, __shfl_xor_sync(kAllLanes, peak, o));
    finite = __shfl_xor_sync(kAllLanes, int(finite), o) != 0 && finite;
  }
  ByteChunk c = {{0, 0}, __float2half_rn(__fdiv_rn(peak, 127.f))};
  const float scale = __half2float(c.scale);
  if (!finite) {
    c.scale = __ushort_as_half(0x7e00);  // not a number
  } else if (scale > 0) {
    const float inverse = __fdiv_rn(1.f, scale);
    uint32_t* words[2] = {&c.numbers.x, &c.numbers.y};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int q = max(-127, min(127, __float2int_rn(__fmul_rn(v[i], inverse))));
      *words[i / 4] |= uint32_t(q & 255) << (8 * (i % 4));
    }
  }
  return c;
}

/// Into a part (global or shared memory). Lanes past the head's end write nothing.
__device__ __forceinline__ void put_bytes(uint8_t* part, int padded, int token, int lane, const ByteChunk& c) {
  if (lane * 8 >= padded) return;
  reinterpret_cast<uint2*>(part)[lane * kBlockTokens + token] = c.numbers;
  if (lane % 4 == 0) reinterpret_cast<__half*>(part + padded * kBlockTokens)[lane / 4 * kBlockTokens + token] = c.scale;
}

/// Where K (or V) of the row's own token is stored.
__device__ __forceinline__ uint8_t* bytes_address(const AttentionArgs& a, int row, int position, int kv_head,
                                                  bool is_k) {
  uint8_t* block = const_cast<uint8_t*>(block_address(a, row, position / kBlockTokens, kv_head));
  return block + (is_k ? 0 : byte_part_bytes(padded_head_dim(a.head_dim)));
}

/// All threads of the block copy K and V of one block as they are.
__device__ __forceinline__ void copy_block_bytes(const AttentionArgs& a, uint32_t to, const uint8_t* from) {
  const int all = 2 * byte_part_bytes(padded_head_dim(a.head_dim));
  for (int i = threadIdx.x * 16; i < all; i += blockDim.x * 16) copy_async16(to + i, from + i);
}

/// Four bytes as halves, exactly: 1024 + 128 + q has q's bits in its mantissa.
__device__ __forceinline__ void to_halves(uint32_t bytes, __half2* low, __half2* high) {
  const uint32_t u = bytes ^ 0x80808080u, l = __byte_perm(u, 0x64646464u, 0x4140),
                 h = __byte_perm(u, 0x64646464u, 0x4342);
  const __half2 offset = __half2half2(__ushort_as_half(0x6480));  // 1152
  *low = __hsub2(*reinterpret_cast<const __half2*>(&l), offset);
  *high = __hsub2(*reinterpret_cast<const __half2*>(&h), offset);
}

/// cos and signed sin by which number `d` of a head and its fellow's are weighed at the start of page `block`.
__device__ __forceinline__ float2 page_turn(const AttentionArgs& a, int block, int d) {
  if (d >= a.rope_dims) return {1.f, 0.f};
  const int half = a.rope_dims / 2;
  const bool first = a.rope_pairs ? d % 2 == 0 : d < half;
  const float2 cs = __ldg(a.rope + int64_t(block) * kBlockTokens * half +
                          (a.rope_pairs ? d / 2
                           : first      ? d
                                        : d - half));
  return {cs.x, first ? -cs.y : cs.y};
}

/// A page's turn in shared memory: cos of all numbers of a head, then sin.
__host__ __device__ constexpr int turn_bytes(int head_dim) { return head_dim * 4; }
__device__ __forceinline__ void put_turn(uint8_t* turn, int head_dim, int d, float2 t) {
  reinterpret_cast<__half*>(turn)[d] = __float2half_rn(t.x);
  reinterpret_cast<__half*>(turn)[head_dim + d] = __float2half_rn(t.y);
}

/// This KV head's table of key_bias, and its bytes.
__device__ __forceinline__ const uint8_t* bias_table(const AttentionArgs& a, int kv_head) {
  return static_cast<const uint8_t*>(a.key_bias) + int64_t(kv_head) * int64_t(key_bias_bytes(1, a.head_dim));
}

/// The bias of 8 keys of a token, turned to its position.
__device__ __forceinline__ void turned_bias(const AttentionArgs& a, const uint8_t* table, const uint8_t* turn, int room,
                                            int chunk, int token, __half2 (&b)[4]) {
  const uint4* chunks = reinterpret_cast<const uint4*>(table);
  const int half = a.rope_dims / 2;
  const uint4 own = chunks[chunk * kBlockTokens + token], cos = reinterpret_cast<const uint4*>(turn)[chunk],
              sin = reinterpret_cast<const uint4*>(turn + room * 2)[chunk];
  uint4 fellow = own;
  if (a.rope_pairs) {
    fellow = {__byte_perm(own.x, 0, 0x1032), __byte_perm(own.y, 0, 0x1032), __byte_perm(own.z, 0, 0x1032),
              __byte_perm(own.w, 0, 0x1032)};
  } else if (half % 8 == 0) {
    if (chunk * 8 < a.rope_dims)
      fellow = chunks[(chunk * 8 < half ? chunk + half / 8 : chunk - half / 8) * kBlockTokens + token];
  } else {  // fellows are strewn over chunks
    uint32_t words[4] = {};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int d = 8 * chunk + i, other = d < half ? d + half : d < a.rope_dims ? d - half : d;
      const uint32_t bits =
          reinterpret_cast<const uint16_t*>(table)[(other / 8 * kBlockTokens + token) * 8 + other % 8];
      words[i / 2] |= bits << (16 * (i % 2));
    }
    fellow = {words[0], words[1], words[2], words[3]};
  }
  const uint32_t x[4] = {own.x, own.y, own.z, own.w}, y[4] = {fellow.x, fellow.y, fellow.z, fellow.w},
                 c[4] = {cos.x, cos.y, cos.z, cos.w}, s[4] = {sin.x, sin.y, sin.z, sin.w};
  const auto h = [](const uint32_t& u) { return *reinterpret_cast<const __half2*>(&u); };
#pragma unroll
  for (int k = 0; k < 4; ++k) b[k] = __hfma2(h(x[k]), h(c[k]), __hmul2_rn(h(y[k]), h(s[k])));
}

/// A copied block (all threads; after its arrival is known to all) to halves as copy_block() would have laid them: K at
/// `to`, V kv_part_bytes(kHeadDim) on, zero from `visible_tokens` on. `table` and `turn` (of the block) with key_bias.
template <int kHeadDim, int kUnroll>
__device__ __forceinline__ void expand_block(const AttentionArgs& a, const uint8_t* from, uint8_t* to,
                                             const uint8_t* table, const uint8_t* turn, int visible_tokens) {
  const int padded = padded_head_dim(a.head_dim), items = padded / 8 * kBlockTokens;
  const auto bytes_at = [&](const uint8_t* part, int i, __half2(&q)[4]) {
    const uint2 numbers = reinterpret_cast<const uint2*>(part)[i];
    to_halves(numbers.x, &q[0], &q[1]);
    to_halves(numbers.y, &q[2], &q[3]);
    const __half* scales = reinterpret_cast<const __half*>(part + padded * kBlockTokens);
    return __half2half2(scales[i / (4 * kBlockTokens) * kBlockTokens + i % kBlockTokens]);
  };
  const auto put = [](uint8_t* part, int i, const __half2(&r)[4]) {
    reinterpret_cast<uint4*>(part)[i] = {as_bits(r[0]), as_bits(r[1]), as_bits(r[2]), as_bits(r[3])};
  };
#pragma unroll kUnroll
  for (int i = threadIdx.x; i < items; i += blockDim.x) {  // a warp is in one chunk
    __half2 q[4], b[4] = {};
    const __half2 scale = bytes_at(from, i, q);
    if (a.key_bias != nullptr) turned_bias(a, table, turn, kHeadDim, i / kBlockTokens, i % kBlockTokens, b);
#pragma unroll
    for (int k = 0; k < 4; ++k) q[k] = __hfma2(q[k], scale, b[k]);
    put(to, i, q);
  }
#pragma unroll kUnroll
  for (int i = threadIdx.x; i < items; i += blockDim.x) {
    __half2 q[4];
    const __half2 scale = bytes_at(from + byte_part_bytes(padded), i, q);
#pragma unroll
    for (int k = 0; k < 4; ++k) q[k] = i % kBlockTokens < visible_tokens ? __hmul2_rn(q[k], scale) : __half2{};
    put(to + kv_part_bytes(kHeadDim), i, q);
  }
}

}  // namespace ponder::backend::cuda
