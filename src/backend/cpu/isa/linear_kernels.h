// The table of linear kernels of one instruction-set level. linear.cpp is their only caller.
#pragma once

#include <cstdint>

#include "backend/cpu/isa/isa_level.h"
#include "backend/cpu/isa/linear_layout.h"

namespace ponder::backend::cpu::isa {

/// A panel times a column group of W rows: tile[c][r] for c < W, r < 16, overwritten.
using PanelKernel = void (*)(const uint8_t* panel, int64_t columns, const uint8_t* x, float* tile);
/// One group of n blocks of a panel times 8 rows' record of it: added to tile[c][r].
using GroupKernel = void (*)(const UnpackedGroup& group, int n, const uint8_t* record, float* tile);
/// Floats [columns][16] times W rows: even columns are added to even[c][r], odd ones to odd[c][r].
using FloatKernel = void (*)(const uint8_t* panel, int64_t columns, const uint8_t* x, float* even, float* odd);

struct LinearKernels {
  /// One row into column `c` of a group of width `w`.
  void (*quantize)(Form form, const float* x, int64_t columns, uint8_t* group, int w, int c);

  /// Straight from the packed panel, by [family][form][log2 width]. Null where only `group` exists (width 8).
  PanelKernel panel[kIntFamilies][kIntForms][4];
  /// From a group that `unpack` has spread out, width 8, by [family][form]. Null where `panel` is as good.
  GroupKernel group[kIntFamilies][kIntForms];
  /// Group `index` of a packed panel.
  void (*unpack[kIntFamilies])(const uint8_t* panel, int64_t columns, int64_t index, UnpackedGroup* out);
  /// The first `columns` of a group as floats [columns][16], rounded as quant::Format::dequantize rounds.
  void (*dequantize)(Kind kind, const UnpackedGroup& group, int64_t columns, float* out);
  /// F16, BF16, F32 panels with float activations, by [family - f16][log2 width].
  FloatKernel floats[3][4];

  /// For limits.h: runs the level's int8 multiply-add about `n` times, registers only; returns the
  /// multiply-adds done.
  uint64_t (*int8_peak)(int64_t n, int32_t* sink);
  /// Reads `bytes` (a multiple of 256), with software prefetch or without.
  uint64_t (*read)(const uint8_t* data, uint64_t bytes, bool prefetch);
};

extern const LinearKernels kLinearScalar;
#if defined(__x86_64__)
extern const LinearKernels kLinearAvx2, kLinearAvx2Vnni, kLinearEvexVnni, kLinearAvx512;
#elif defined(__aarch64__)
extern const LinearKernels kLinearNeon;
#endif

const LinearKernels& linear_kernels(Level level);

}  // namespace ponder::backend::cpu::isa
