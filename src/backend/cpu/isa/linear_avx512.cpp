// The AVX-512 level of the linear kernels: its table, the float kernels, and the instantiations of
// linear_avx512.inc.
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#include "backend/cpu/isa/linear_avx512.inc"
//
#include "backend/cpu/isa/linear_portable.inc"
//
#include "backend/cpu/isa/quantize_avx512.inc"

template <Kind K, Form F>
void unpacked(const UnpackedGroup& group, int n, const uint8_t* record, float* tile) {
  const Cursor at = {reinterpret_cast<const uint8_t*>(&group), &group.q[0][0][0], nullptr};
  int_group<Spread<K>, 8, F>(at, n, reinterpret_cast<const Record<8, F>*>(record), tile);
}

template <Family A>
inline __m512 load_column(const uint8_t* panel, int64_t k) {
  if constexpr (A == Family::f16)
    return load_half16(panel + 32 * k);
  else if constexpr (A == Family::bf16)
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(panel + 32 * k))), 16));
  else
    return _mm512_load_ps(reinterpret_cast<const float*>(panel + 64 * k));
}

template <Family A, int NC>
void floats(const uint8_t* panel, int64_t columns, const uint8_t* x, float* even_sums, float* odd_sums) {
  const float* v = reinterpret_cast<const float*>(x);
  constexpr int kBytes = A == Family::f32 ? 64 : 32;
  __m512 even[NC], odd[NC];
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) {
    even[c] = _mm512_loadu_ps(even_sums + 16 * c);
    odd[c] = _mm512_loadu_ps(odd_sums + 16 * c);
  }
  int64_t k = 0;
  for (; k + 2 <= columns; k += 2, v += 2 * NC) {
    _mm_prefetch(reinterpret_cast<const char*>(panel + kBytes * k + kAhead), _MM_HINT_T0);
    const __m512 w0 = load_column<A>(panel, k), w1 = load_column<A>(panel, k + 1);
#pragma GCC unroll 8
    for (int c = 0; c < NC; c++) {
      even[c] = _mm512_fmadd_ps(w0, real(v[c]), even[c]);
      odd[c] = _mm512_fmadd_ps(w1, real(v[NC + c]), odd[c]);
    }
  }
  if (k < columns) {
    const __m512 w0 = load_column<A>(panel, k);
#pragma GCC unroll 8
    for (int c = 0; c < NC; c++) even[c] = _mm512_fmadd_ps(w0, real(v[c]), even[c]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) {
    _mm512_storeu_ps(even_sums + 16 * c, even[c]);
    _mm512_storeu_ps(odd_sums + 16 * c, odd[c]);
  }
}

uint64_t int8_peak(int64_t n, int32_t* sink) {
  __m512i s[12], w = _mm512_set1_epi32(*sink | 0x01010101), v = _mm512_set1_epi32(0x02020202);
  for (auto& a : s) a = _mm512_setzero_si512();
  const int64_t steps = n / (12 * 64) + 1;
  for (int64_t i = 0; i < steps; i++) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; k++) s[k] = _mm512_dpbusd_epi32(s[k], w, v);
    asm volatile("" : "+v"(w));
  }
  alignas(64) int32_t lanes[16];
  for (auto& a : s) {
    _mm512_store_si512(lanes, a);
    *sink += lanes[0];
  }
  return uint64_t(steps) * 12 * 64;
}

/// unpack_one of linear_portable.inc with the quants decoded as the kernels decode them.
template <Family A>
void spread(const uint8_t* panel, int64_t columns, int64_t index, UnpackedGroup* out) {
  using P = Packed<A>;
  const GroupPlace<A> at(panel, columns, index);
  unpack_group_head<A>(at.head, at.front, at.n, out);
  const uint8_t* b = at.head + head_bytes(A, at.n);
  for (int j = 0; j < at.n; j++, b += P::kBlockBytes) {
    for (int i = 0; i < P::kBlockBytes; i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(b + kAhead + i), _MM_HINT_T0);
    for (int h = 0; h < (P::kKind == Kind::k16 ? 2 : 1); h++)
      P::each(b, h, [&](int i, __m512i w) __attribute__((always_inline)) {
        _mm512_store_si512(&out->q[8 * j + 4 * h + i], w);
      });
  }
}

#define WIDTHS(F, A) \
  {int_panel<Packed<F>, 1, A>, int_panel<Packed<F>, 2, A>, int_panel<Packed<F>, 4, A>, int_panel<Packed<F>, 8, A>}
#define FAMILY(F) {WIDTHS(F, Form::i8x32), WIDTHS(F, Form::i8x32r1), WIDTHS(F, Form::i14x256)}
#define UNPACKED(K) {unpacked<K, Form::i8x32>, unpacked<K, Form::i8x32r1>, unpacked<K, Form::i14x256>}
#define FLOATS(F) {floats<F, 1>, floats<F, 2>, floats<F, 4>, floats<F, 8>}

}  // namespace

const LinearKernels kLinearAvx512 = {
    .quantize = quantize_512,
    .panel = {FAMILY(Family::q4_0), FAMILY(Family::q4_1), FAMILY(Family::q5_0), FAMILY(Family::q5_1),
              FAMILY(Family::q8_0), FAMILY(Family::q4_k), FAMILY(Family::q5_k), FAMILY(Family::q6_k)},
    .group = {UNPACKED(Kind::b4), UNPACKED(Kind::bm), UNPACKED(Kind::b5), UNPACKED(Kind::bm), UNPACKED(Kind::b8),
              UNPACKED(Kind::k), UNPACKED(Kind::k), UNPACKED(Kind::k16)},
    .unpack = {spread<Family::q4_0>, spread<Family::q4_1>, spread<Family::q5_0>, spread<Family::q5_1>,
               spread<Family::q8_0>, spread<Family::q4_k>, spread<Family::q5_k>, spread<Family::q6_k>},
    .dequantize = dequantize,
    .floats = {FLOATS(Family::f16), FLOATS(Family::bf16), FLOATS(Family::f32)},
    .int8_peak = int8_peak,
    .read = read_memory,
};

}  // namespace ponder::backend::cpu::isa
#endif
