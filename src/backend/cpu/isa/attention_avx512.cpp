// The kernels of vector.h for the level "avx512". Only intrinsics and plain structs here: this unit is compiled with
// its own flags, and nothing of it may be shared with the rest of the program (inline functions would be).
#if defined(__x86_64__)
#include "backend/cpu/isa/lanes_avx512.h"
// (the lanes come first)
#include "backend/cpu/isa/attention_kernels.h"

namespace ponder::backend::cpu {

extern const VectorKernels kVectorKernels_avx512;
const VectorKernels kVectorKernels_avx512 = make_kernels("avx512");

}  // namespace ponder::backend::cpu
#endif
