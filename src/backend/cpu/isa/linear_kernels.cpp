// Which table belongs to which level.
#include "backend/cpu/isa/linear_kernels.h"

namespace ponder::backend::cpu::isa {

const LinearKernels& linear_kernels(Level level) {
#if defined(__x86_64__)
  if (level == Level::avx512) return kLinearAvx512;
  if (level == Level::avx2_vnni) return __builtin_cpu_supports("avxvnni") ? kLinearAvx2Vnni : kLinearEvexVnni;
  if (level == Level::avx2) return kLinearAvx2;
#elif defined(__aarch64__)
  if (level == Level::neon) return kLinearNeon;
#endif
  (void)level;
  return kLinearScalar;
}

}  // namespace ponder::backend::cpu::isa
