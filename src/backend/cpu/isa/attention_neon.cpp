// The kernels of vector.h for the level "neon". Only intrinsics and plain structs here: this unit is compiled with
// its own flags, and nothing of it may be shared with the rest of the program (inline functions would be).
#if defined(__aarch64__)
#include "backend/cpu/isa/lanes_neon.h"
// (the lanes come first)
#include "backend/cpu/isa/attention_kernels.h"

namespace ponder::backend::cpu {

extern const VectorKernels kVectorKernels_neon;
const VectorKernels kVectorKernels_neon = make_kernels("neon");

}  // namespace ponder::backend::cpu
#endif
