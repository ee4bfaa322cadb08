// The level avx2_vnni on processors that have VNNI in its EVEX form only (AVX-512 VL): the same source as
// linear_avx2_vnni.cpp, so that a machine with AVX-512 can run and check it.
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#define PONDER_DPBUSD _mm256_dpbusd_epi32
#include "backend/cpu/isa/linear_avx256.inc"
//
#include "backend/cpu/isa/linear_narrow.inc"

}  // namespace

const LinearKernels kLinearEvexVnni = make_kernels();

}  // namespace ponder::backend::cpu::isa
#endif
