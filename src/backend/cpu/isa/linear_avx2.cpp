// The AVX2 level of the linear kernels: linear_narrow.inc without VNNI.
#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {
namespace {

#include "backend/cpu/isa/linear_avx256.inc"
//
#include "backend/cpu/isa/linear_narrow.inc"

}  // namespace

const LinearKernels kLinearAvx2 = make_kernels();

}  // namespace ponder::backend::cpu::isa
#endif
