// Instruction-set levels. Vector code lives in files isa/*_<level>.cpp, each compiled with that
// level's flags and holding only intrinsics and plain structs; every family of kernels has one
// table of function pointers per level and a function table(Level). All levels give the same bits
// (docs/numerics.md), so a level changes speed only.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "backend/cpu/isa/isa_level.h"

namespace ponder::backend::cpu::isa {

/// "scalar", "avx2" (AVX2, FMA, F16C), "avx2_vnni" (and AVX-VNNI, or the 256-bit VNNI of AVX-512), "avx512" (F, BW, VL, DQ,
/// VNNI), "neon" (ARMv8.2 with dot products).
const char* to_string(Level level);
std::optional<Level> parse_level(std::string_view name);

/// Levels this build has and this processor can run, slowest first. Never empty.
std::span<const Level> available();

/// The level in use: the best available one, or PONDER_ISA if that names an available one. Decided
/// once per process.
Level active();

}  // namespace ponder::backend::cpu::isa
