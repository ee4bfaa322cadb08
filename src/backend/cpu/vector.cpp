// The table of levels. Which one runs is decided by isa.h, for these and the linear kernels together.
#include "backend/cpu/vector.h"

namespace ponder::backend::cpu {

extern const VectorKernels kVectorKernels_scalar;
#if defined(__x86_64__)
extern const VectorKernels kVectorKernels_avx2, kVectorKernels_avx512;
#elif defined(__aarch64__)
extern const VectorKernels kVectorKernels_neon;
#endif

const VectorKernels& vector_kernels(isa::Level level) {
  switch (level) {
#if defined(__x86_64__)
    case isa::Level::avx512:
      return kVectorKernels_avx512;
    case isa::Level::avx2:
    case isa::Level::avx2_vnni:
      return kVectorKernels_avx2;
#elif defined(__aarch64__)
    case isa::Level::neon:
      return kVectorKernels_neon;
#endif
    default:
      return kVectorKernels_scalar;
  }
}

}  // namespace ponder::backend::cpu
