// Packing: a tensor's rows of blocks into panels (isa/linear_layout.h). Each row's group of 256
// columns is decoded to one byte a weight (a specialised decoder where the loading time of a model
// hangs on it, else the format's own decode_ints), the 16 rows are transposed four columns at a
// time, and the bits put together again. The loops are plain so that the compiler vectorises them:
// about 1 cycle a byte.
#include <bit>
#include <cstring>

#include "backend/cpu/isa/linear_layout.h"
#include "backend/cpu/linear.h"

namespace ponder::backend::cpu {
namespace {

using quant::Format;

/// 256 columns of one row: d and m per block of 32, or d, dmin in [0] and scales and mins for
/// superblocks.
struct alignas(64) RowGroup {
  uint8_t q[256];
  uint16_t d[8], m[8];
  uint8_t scale[16], min[8];
};

uint16_t load16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }

// ---- decoders: one block of a format
// ---------------------------------------------------------------------------------

void low_nibbles(const uint8_t* p, uint8_t* q) {  // 16 bytes: weights i and i + 16
  for (int i = 0; i < 16; i++) {
    q[i] = p[i] & 15;
    q[16 + i] = uint8_t(p[i] >> 4);
  }
}

/// Bit i of four bytes becomes bit 4 of q[i].
void fifth_bits(const uint8_t* p, uint8_t* q) {
  for (int b = 0; b < 4; b++) {
    uint64_t v = (p[b] * 0x0101010101010101u) & 0x8040201008040201u;
    v = ((v + 0x7f7f7f7f7f7f7f7fu) & 0x8080808080808080u) >> 3;
    uint64_t low;
    std::memcpy(&low, q + 8 * b, 8);
    low |= v;
    std::memcpy(q + 8 * b, &low, 8);
  }
}

void k_scales(const uint8_t* p, RowGroup* out) {  // 12 bytes: 8 scales and 8 mins of 6 bits
  for (int j = 0; j < 4; j++) {
    out->scale[j] = p[j] & 63;
    out->min[j] = p[4 + j] & 63;
    out->scale[4 + j] = uint8_t((p[8 + j] & 15) | (p[j] >> 6) << 4);
    out->min[4 + j] = uint8_t((p[8 + j] >> 4) | (p[4 + j] >> 6) << 4);
  }
}

void k_nibbles(const uint8_t* p, uint8_t* q) {
  for (int g = 0; g < 4; g++) {
    for (int i = 0; i < 32; i++) {
      q[64 * g + i] = p[32 * g + i] & 15;
      q[64 * g + 32 + i] = uint8_t(p[32 * g + i] >> 4);
    }
  }
}

/// n blocks (n = 8, or fewer in a short last group; superblocks: all 256 columns) at p.
template <quant::Type T>
void decode(const uint8_t* p, int n, RowGroup* out) {
  using quant::Type;
  if constexpr (T == Type::q4_k || T == Type::q5_k) {
    out->d[0] = load16(p);
    out->m[0] = load16(p + 2);
    k_scales(p + 4, out);
    k_nibbles(p + (T == Type::q4_k ? 16 : 48), out->q);
    if constexpr (T == Type::q5_k)
      for (int j = 0; j < 8; j++)
        for (int i = 0; i < 32; i++) out->q[32 * j + i] |= uint8_t(((p[16 + i] >> j) & 1) << 4);
  } else if constexpr (T == Type::q6_k) {
    for (int half = 0; half < 2; half++) {
      const uint8_t *low = p + 64 * half, *high = p + 128 + 32 * half;
      uint8_t* q = out->q + 128 * half;
      for (int i = 0; i < 32; i++) {
        q[i] = uint8_t((low[i] & 15) | (high[i] & 3) << 4);
        q[32 + i] = uint8_t((low[32 + i] & 15) | (high[i] >> 2 & 3) << 4);
        q[64 + i] = uint8_t(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
        q[96 + i] = uint8_t(low[32 + i] >> 4 | (high[i] >> 6) << 4);
      }
    }
    std::memcpy(out->scale, p + 192, 16);
    out->d[0] = load16(p + 208);
  } else {
    for (int j = 0; j < n; j++) {
      uint8_t* q = out->q + 32 * j;
      out->d[j] = load16(p);
      if constexpr (T == Type::q4_0) {
        low_nibbles(p + 2, q);
        p += 18;
      } else if constexpr (T == Type::q4_1) {
        out->m[j] = load16(p + 2);
        low_nibbles(p + 4, q);
        p += 20;
      } else if constexpr (T == Type::q5_0) {
        low_nibbles(p + 6, q);
        fifth_bits(p + 2, q);
        p += 22;
      } else if constexpr (T == Type::q5_1) {
        out->m[j] = load16(p + 2);
        low_nibbles(p + 8, q);
        fifth_bits(p + 4, q);
        p += 24;
      } else {
        static_assert(T == Type::q8_0);
        for (int i = 0; i < 32; i++) q[i] = p[2 + i] ^ 0x80;
        p += 34;
      }
    }
  }
}

/// Any format of a known family, through its canonical form.
void decode_any(const Format& format, const uint8_t* p, int n, RowGroup* out) {
  const int n_blocks = format.block_size == 256 ? 1 : n;
  for (int j = 0; j < n_blocks; j++, p += format.block_bytes) {
    quant::IntBlock b;
    format.decode_ints(p, &b);
    out->d[j] = b.d;
    out->m[j] = format.block_size == 256 ? b.dmin : uint16_t(b.dmin ^ 0x8000);
    std::memcpy(out->q + size_t(j) * format.block_size, b.q, format.block_size);
    if (format.block_size == 256) {
      std::memcpy(out->scale, b.scale, 16);
      std::memcpy(out->min, b.min, 8);
    }
  }
}

void decode_row(const Format& format, const uint8_t* p, int n, RowGroup* out) {
  switch (format.type) {
    case quant::Type::q4_0:
      return decode<quant::Type::q4_0>(p, n, out);
    case quant::Type::q4_1:
      return decode<quant::Type::q4_1>(p, n, out);
    case quant::Type::q5_0:
      return decode<quant::Type::q5_0>(p, n, out);
    case quant::Type::q5_1:
      return decode<quant::Type::q5_1>(p, n, out);
    case quant::Type::q8_0:
      return decode<quant::Type::q8_0>(p, n, out);
    case quant::Type::q4_k:
      return decode<quant::Type::q4_k>(p, n, out);
    case quant::Type::q5_k:
      return decode<quant::Type::q5_k>(p, n, out);
    case quant::Type::q6_k:
      return decode<quant::Type::q6_k>(p, n, out);
    default:
      return decode_any(format, p, n, out);
  }
}

// ---- panels
// ----------------------------------------------------------------------------------------------------------

void store16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, 2); }

/// Eight vectors of 64 bytes (one a weight) into the block's bits.
void emit_block(Family family, const uint8_t* v, uint8_t* out) {
  if (family == Family::q8_0) {
    std::memcpy(out, v, 512);
    return;
  }
  if (family == Family::q6_k) {
    for (int half = 0; half < 2; half++, v += 256, out += 192) {
      for (int i = 0; i < 64; i++) {
        const uint8_t last = v[192 + i];
        out[i] = uint8_t(v[i] | last << 6);
        out[64 + i] = uint8_t(v[64 + i] | (last & 12) << 4);
        out[128 + i] = uint8_t(v[128 + i] | (last & 48) << 2);
      }
    }
    return;
  }
  for (int g = 0; g < 4; g++)
    for (int i = 0; i < 64; i++) out[64 * g + i] = uint8_t((v[64 * g + i] & 15) | v[64 * (g + 4) + i] << 4);
  if (isa::block_vectors(family) == 5) {
    for (int i = 0; i < 64; i += 8) {  // eight bytes at a time: bit 4 of vector g goes to bit g
      uint64_t bits = 0;
      for (int g = 0; g < 8; g++) {
        uint64_t x;
        std::memcpy(&x, v + 64 * g + i, 8);
        x &= 0x1010101010101010u;
        bits |= g < 4 ? x >> (4 - g) : x << (g - 4);
      }
      std::memcpy(out + 256 + i, &bits, 8);
    }
  }
}

void emit_k_head(const RowGroup* rows, uint8_t* out) {
  for (int r = 0; r < kPanelRows; r++) {
    const RowGroup& x = rows[r];
    const uint8_t *sc = x.scale, *mn = x.min;
    uint32_t word[3] = {};
    for (int h = 0; h < 2; h++) {
      const uint32_t a = uint32_t(sc[h] | sc[2 + h] << 6 | (mn[4 + h] & 15) << 12);
      const uint32_t b = uint32_t(mn[h] | mn[2 + h] << 6 | (mn[4 + h] >> 4) << 12 | (mn[6 + h] >> 4) << 14);
      const uint32_t c = uint32_t(sc[4 + h] | sc[6 + h] << 6 | (mn[6 + h] & 15) << 12);
      word[0] |= a << (16 * h);
      word[1] |= b << (16 * h);
      word[2] |= c << (16 * h);
    }
    store16(out + 2 * r, x.d[0]);
    store16(out + 32 + 2 * r, x.m[0]);
    for (int i = 0; i < 3; i++) std::memcpy(out + 64 + 64 * i + 4 * r, &word[i], 4);
  }
}

/// A group of n blocks of 16 rows at `out`; `front`: its part of what stands in front of the panel.
void emit_group(Family family, const RowGroup* rows, int n, uint8_t* front, uint8_t* out) {
  if (isa::kind_of(family) == isa::Kind::k) {
    emit_k_head(rows, out);
  } else if (family == Family::q6_k) {
    for (int r = 0; r < kPanelRows; r++) {
      store16(front + 2 * r, rows[r].d[0]);
      for (int j = 0; j < 16; j++) out[16 * j + r] = rows[r].scale[j];
    }
  } else {
    for (int r = 0; r < kPanelRows; r++) {
      for (int j = 0; j < n; j++) {
        store16(out + 32 * j + 2 * r, rows[r].d[j]);
        if (isa::has_block_min(family)) store16(out + 32 * (n + j) + 2 * r, rows[r].m[j]);
      }
    }
  }
  out += isa::head_bytes(family, n);
  alignas(64) uint32_t block[8][kPanelRows];
  for (int j = 0; j < n; j++, out += 64 * isa::block_vectors(family)) {
    for (int i = 0; i < 8; i++)
      for (int r = 0; r < kPanelRows; r++) std::memcpy(&block[i][r], rows[r].q + 32 * j + 4 * i, 4);
    emit_block(family, reinterpret_cast<const uint8_t*>(block), out);
  }
}

void pack_ints(const Matrix& m, const uint8_t* data, uint64_t row_bytes, int64_t panel, uint8_t* out) {
  const Format& format = m.format();
  const int64_t first = panel * kPanelRows, columns = m.columns();
  uint8_t* p = out + isa::front_bytes(m.family(), columns);
  // Padding is written too: packed bytes are a function of the tensor alone.
  if (isa::front_bytes(m.family(), columns)) std::memset(out, 0, size_t(p - out));
  RowGroup rows[kPanelRows];
  for (int64_t k = 0; k < columns; k += kGroup, out += 2 * kPanelRows) {
    const int n = int(std::min<int64_t>(kGroup, columns - k) / 32);
    const uint64_t offset = format.row_bytes(uint64_t(k));
    for (int r = 0; r < kPanelRows; r++) {
      if (first + r < m.rows())
        decode_row(format, data + uint64_t(first + r) * row_bytes + offset, n, &rows[r]);
      else
        rows[r] = RowGroup{};
    }
    if (n < 8) std::memset(p, 0, size_t(isa::head_bytes(m.family(), n)));
    emit_group(m.family(), rows, n, out, p);
    p += isa::group_bytes(m.family(), n);
  }
}

template <class T>
void pack_values(const Matrix& m, const uint8_t* data, uint64_t row_bytes, int64_t panel, uint8_t* out) {
  const int64_t first = panel * kPanelRows, columns = m.columns();
  std::memset(out, 0, m.panel_bytes());
  for (int r = 0; r < kPanelRows && first + r < m.rows(); r++) {
    const uint8_t* row = data + uint64_t(first + r) * row_bytes;
    for (int64_t k = 0; k < columns; k++)
      std::memcpy(out + size_t(k * kPanelRows + r) * sizeof(T), row + size_t(k) * sizeof(T), sizeof(T));
  }
}

/// Formats without a family: as floats.
void pack_dequantized(const Matrix& m, const uint8_t* data, uint64_t row_bytes, int64_t panel, uint8_t* out) {
  const int64_t first = panel * kPanelRows, columns = m.columns(), block = m.format().block_size;
  std::memset(out, 0, m.panel_bytes());
  float values[256];
  for (int r = 0; r < kPanelRows && first + r < m.rows(); r++) {
    const uint8_t* p = data + uint64_t(first + r) * row_bytes;
    for (int64_t k = 0; k < columns; k += block, p += m.format().block_bytes) {
      m.format().dequantize(p, values, 1);
      for (int64_t i = 0; i < block; i++)
        std::memcpy(out + size_t((k + i) * kPanelRows + r) * sizeof(float), &values[i], sizeof(float));
    }
  }
}

}  // namespace

void Matrix::pack(std::span<const uint8_t> data, PanelRange panels, uint8_t* packed) const {
  const uint64_t row_bytes = format_->row_bytes(uint64_t(columns_));
  for (int64_t p = panels.first; p < panels.last; p++) {
    uint8_t* out = packed + uint64_t(p) * panel_bytes_;
    if (format_->type == quant::Type::f32)
      pack_values<uint32_t>(*this, data.data(), row_bytes, p, out);
    else if (family_ == Family::f16 || family_ == Family::bf16)
      pack_values<uint16_t>(*this, data.data(), row_bytes, p, out);
    else if (family_ == Family::f32)
      pack_dequantized(*this, data.data(), row_bytes, p, out);
    else
      pack_ints(*this, data.data(), row_bytes, p, out);
  }
}

}  // namespace ponder::backend::cpu
