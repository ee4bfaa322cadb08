// The names of the instruction-set levels, apart from isa.h so that the vector units may include
// them.
#pragma once

namespace ponder::backend::cpu::isa {

enum class Level { scalar, avx2, avx2_vnni, avx512, neon };

}  // namespace ponder::backend::cpu::isa
