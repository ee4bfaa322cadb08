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

/// UnpackedKernel is a PanelKernel on other memory.
template <Kind K, Form F>
void spread_panel(const UnpackedGroup* panel, int64_t columns, const uint8_t* x, float* tile) {
  int_panel<Spread<K>, 8, F>(reinterpret_cast<const uint8_t*>(panel), columns, x, tile);
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

/// Even and odd columns have a sum each; they are added at the end.
template <Family A, int NC>
void floats(const uint8_t* panel, int64_t columns, const uint8_t* x, float* tile) {
  const float* v = reinterpret_cast<const float*>(x);
  constexpr int kBytes = A == Family::f32 ? 64 : 32;
  __m512 even[NC], odd[NC];
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) even[c] = odd[c] = _mm512_setzero_ps();
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
  for (int c = 0; c < NC; c++) _mm512_storeu_ps(tile + 16 * c, _mm512_add_ps(even[c], odd[c]));
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

/// unpack_panel of linear_portable.inc with the quants decoded as the kernels decode them.
template <Family A>
void spread(const uint8_t* panel, int64_t columns, UnpackedGroup* out) {
  using P = Packed<A>;
  P source(panel, columns);
  for (; columns > 0; columns -= 256, out++) {
    const int n = columns >= 256 ? 8 : int(columns / 32);
    const Cursor at = source.group(n);
    unpack_group_head<A>(at.head, at.front, n, out);
    const uint8_t* b = at.quants;
    for (int j = 0; j < n; j++, b += P::kBlockBytes) {
      for (int h = 0; h < (P::kKind == Kind::k16 ? 2 : 1); h++)
        P::each(b, h, [&](int i, __m512i w) __attribute__((always_inline)) {
          _mm512_store_si512(&out->q[8 * j + 4 * h + i], w);
        });
    }
    source.next(n);
  }
}

#define WIDTHS(F, A) \
  {int_panel<Packed<F>, 1, A>, int_panel<Packed<F>, 2, A>, int_panel<Packed<F>, 4, A>, int_panel<Packed<F>, 8, A>}
#define FAMILY(F) {WIDTHS(F, Form::i8x32), WIDTHS(F, Form::i8x32r1), WIDTHS(F, Form::i14x256)}
#define SPREAD(K) {spread_panel<K, Form::i8x32>, spread_panel<K, Form::i8x32r1>, spread_panel<K, Form::i14x256>}
#define FLOATS(F) {floats<F, 1>, floats<F, 2>, floats<F, 4>, floats<F, 8>}

}  // namespace

const LinearKernels kLinearAvx512 = {
    .quantize = quantize,
    .panel = {FAMILY(Family::q4_0), FAMILY(Family::q4_1), FAMILY(Family::q5_0), FAMILY(Family::q5_1),
              FAMILY(Family::q8_0), FAMILY(Family::q4_k), FAMILY(Family::q5_k), FAMILY(Family::q6_k)},
    .unpacked = {{}, {}, SPREAD(Kind::b5), SPREAD(Kind::bm), {}, {}, SPREAD(Kind::k), SPREAD(Kind::k16)},
    .unpack = {spread<Family::q4_0>, spread<Family::q4_1>, spread<Family::q5_0>, spread<Family::q5_1>,
               spread<Family::q8_0>, spread<Family::q4_k>, spread<Family::q5_k>, spread<Family::q6_k>},
    .dequantize = dequantize,
    .floats = {FLOATS(Family::f16), FLOATS(Family::bf16), FLOATS(Family::f32)},
    .int8_peak = int8_peak,
    .read = read_memory,
};

}  // namespace ponder::backend::cpu::isa
#endif
