// How K and V lie in a page, format by format: writing a token, and what the attention kernels read. Included after the
// unit's Lanes. A reader of K gives 16 tokens' numbers of one dimension, a reader of V 16 dimensions of one token, as
// floats; what a format rounds is rounded when it is written (docs/numerics.md, "K and V").
#pragma once

#include "backend/cpu/isa/vector_kernels.h"

namespace ponder::backend::cpu {
namespace {

inline uint32_t bits_of(float f) { return __builtin_bit_cast(uint32_t, f); }

/// n <= 32 numbers as int8; returns the scale, a half.
inline uint16_t to_bytes(const float* x, int n, int8_t* out) {
  uint32_t peak = 0;
  for (int i = 0; i < n; ++i) {
    const uint32_t u = bits_of(x[i]) & 0x7fffffffu;
    peak = u > peak ? u : peak;
  }
  const bool finite = peak < 0x7f800000u;
  const uint16_t scale = finite ? to_half1(__builtin_bit_cast(float, peak) / 127.f) : uint16_t(0x7e00);
  const float step = from_half1(scale), inverse = finite && step > 0.f ? 1.f / step : 0.f;
  for (int i = 0; i < n; ++i) {
    // Round to nearest even by adding 1.5 * 2^23. A scale rounded down can push the peak past 127.
    const int32_t q = inverse == 0.f ? 0 : int32_t(bits_of(x[i] * inverse + 12582912.f)) - 0x4b400000;
    out[i] = int8_t(q > 127 ? 127 : q < -127 ? -127 : q);
  }
  return scale;
}

void write_k(const float* values, int head_dim, uint8_t* k, int slot, Stored stored) {
  uint8_t* block = k + slot / kTokenLanes * k_block_bytes(stored, head_dim);
  const int lane = slot % kTokenLanes;
  if (stored == Stored::f16) {
    auto* b = reinterpret_cast<uint16_t*>(block) + lane;
    for (int d = 0; d < head_dim; ++d) b[d * kTokenLanes] = to_half1(values[d]);
  } else if (stored == Stored::f32) {
    auto* b = reinterpret_cast<float*>(block) + lane;
    for (int d = 0; d < head_dim; ++d) b[d * kTokenLanes] = values[d];
  } else {
    const int groups = byte_groups(head_dim);
    auto* scales = reinterpret_cast<uint16_t*>(block) + lane;
    auto* b = reinterpret_cast<int8_t*>(block) + 2 * groups * kTokenLanes + lane;
    for (int g = 0; g < groups; ++g) {
      const int n = head_dim - g * kByteGroup < kByteGroup ? head_dim - g * kByteGroup : kByteGroup;
      int8_t q[kByteGroup];
      scales[g * kTokenLanes] = to_bytes(values + g * kByteGroup, n, q);
      for (int i = 0; i < n; ++i) b[(g * kByteGroup + i) * kTokenLanes] = q[i];
    }
  }
}

void write_v(const float* values, int head_dim, uint8_t* v, int slot, Stored stored) {
  const int stride = padded_head(head_dim);
  if (stored == Stored::q8) {
    const int groups = byte_groups(head_dim);
    auto* scales = reinterpret_cast<uint16_t*>(v) + slot * groups;
    auto* row = reinterpret_cast<int8_t*>(v) + 2 * kPageTokens * groups + slot * stride;
    for (int d = head_dim; d < stride; ++d) row[d] = 0;
    for (int g = 0; g < groups; ++g) {
      const int n = head_dim - g * kByteGroup < kByteGroup ? head_dim - g * kByteGroup : kByteGroup;
      scales[g] = to_bytes(values + g * kByteGroup, n, row + g * kByteGroup);
    }
    return;
  }
  for (int d = 0; d < stride; ++d) {
    const float x = d < head_dim ? values[d] : 0.f;
    if (stored == Stored::f16)
      reinterpret_cast<uint16_t*>(v)[slot * stride + d] = to_half1(x);
    else
      reinterpret_cast<float*>(v)[slot * stride + d] = x;
  }
}

// While a page is read, memory is asked for what comes next: `ahead` blocks of K on, and at a page's end in the page after
// it, which lies anywhere; the last tokens' V likewise.
constexpr int kPageBlocks = kPageTokens / kTokenLanes;

/// f16 (uint16_t) or f32.
template <class T>
struct Plain {
  struct Keys {
    const T *block, *later;
    Keys(const uint8_t* k, const uint8_t* next, int head_dim, const float*, int b, int ahead)
        : block(reinterpret_cast<const T*>(k) + int64_t(b) * kTokenLanes * head_dim),
          later(b + ahead < kPageBlocks
                    ? block + int64_t(ahead) * kTokenLanes * head_dim
                    : reinterpret_cast<const T*>(next) + int64_t(b + ahead - kPageBlocks) * kTokenLanes * head_dim) {}
    void group(int) {}
    Lanes load(int d) const { return Lanes::load(block + d * kTokenLanes); }
    void fetch(int d) const { prefetch(later + d * kTokenLanes); }
  };
  struct Values {
    const T* pages[kPartialTokens / kPageTokens];
    int stride;
    Values(int head_dim, float*) : stride(padded_head(head_dim)) {}
    void page(int i, const uint8_t* v) { pages[i] = reinterpret_cast<const T*>(v); }
    const T* row(int t) const { return pages[t / kPageTokens] + t % kPageTokens * stride; }
    Lanes load(const T* row, int, int d) const { return Lanes::load(row + d); }
  };
};

struct Bytes {
  struct Keys {
    const int8_t* block;  // after the scales
    const int8_t* later;
    const uint16_t* scales;
    const float* bias;  // of the block's places, or null
    Lanes scale;
    Keys(const uint8_t* k, const uint8_t* next, int head_dim, const float* places, int b, int ahead)
        : block(reinterpret_cast<const int8_t*>(k) + b * k_block_bytes(Stored::q8, head_dim)),
          later(b + ahead < kPageBlocks ? block + ahead * k_block_bytes(Stored::q8, head_dim)
                                        : reinterpret_cast<const int8_t*>(next) +
                                              (b + ahead - kPageBlocks) * k_block_bytes(Stored::q8, head_dim)),
          scales(reinterpret_cast<const uint16_t*>(block)),
          bias(places == nullptr ? nullptr : places + b * kTokenLanes) {
      block += 2 * byte_groups(head_dim) * kTokenLanes;
    }
    void group(int d) { scale = Lanes::load(scales + d / kByteGroup * kTokenLanes); }
    Lanes load(int d) const {
      const Lanes q = Lanes::load(block + d * kTokenLanes);
      return bias == nullptr ? q * scale : fma(q, scale, Lanes::load(bias + d * kPageTokens));
    }
    void fetch(int d) const { prefetch(later + d * kTokenLanes); }
  };
  struct Values {
    const int8_t* pages[kPartialTokens / kPageTokens];
    int stride, groups;
    float* scales;  // [token of the partial][group]
    Values(int head_dim, float* memory)
        : stride(padded_head(head_dim)), groups(byte_groups(head_dim)), scales(memory) {}
    void page(int i, const uint8_t* v) {
      pages[i] = reinterpret_cast<const int8_t*>(v) + 2 * kPageTokens * groups;
      const int n = kPageTokens * groups;
      for (int t = 0; t < n; t += 16) Lanes::load(reinterpret_cast<const uint16_t*>(v) + t).store(scales + i * n + t);
    }
    const int8_t* row(int t) const { return pages[t / kPageTokens] + t % kPageTokens * stride; }
    Lanes load(const int8_t* row, int t, int d) const {
      return Lanes::load(row + d) * Lanes::set1(scales[t * groups + d / kByteGroup]);
    }
  };
};

}  // namespace
}  // namespace ponder::backend::cpu
