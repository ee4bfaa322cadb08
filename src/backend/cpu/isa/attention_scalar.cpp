// The kernels of vector.h for the level "scalar". Only intrinsics and plain structs here: this unit is compiled with
// its own flags, and nothing of it may be shared with the rest of the program (inline functions would be).
#include "backend/cpu/isa/lanes_scalar.h"
// (the lanes come first)
#include "backend/cpu/isa/attention_kernels.h"

namespace ponder::backend::cpu {

extern const VectorKernels kVectorKernels_scalar;
const VectorKernels kVectorKernels_scalar = make_kernels("scalar");

}  // namespace ponder::backend::cpu
