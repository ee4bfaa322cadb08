// The linear kernels for processors with AVX2 and AVX-VNNI (the VEX form, 16 registers) but no AVX-512: linear_narrow.inc with
// the dot product in one instruction.
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#define PONDER_DPBUSD _mm256_dpbusd_avx_epi32
#include "backend/cpu/isa/linear_avx256.inc"
//
#include "backend/cpu/isa/linear_narrow.inc"

}  // namespace

const LinearKernels kLinearAvx2Vnni = make_kernels();

}  // namespace ponder::backend::cpu::isa
#endif
