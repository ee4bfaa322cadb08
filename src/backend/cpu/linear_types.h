// Names shared by linear.h and the instruction-set units. Plain types only, so that the units may
// include it.
#pragma once

#include <cstdint>

namespace ponder::backend::cpu {

inline constexpr int kPanelRows = 16;  ///< rows of a panel
inline constexpr int kGroup = 256;     ///< columns of an activation group; a row's last may be shorter
inline constexpr int kMaxColumns = 8;  ///< rows of activations that a kernel takes at once

/// How activations are held.
enum class Form : uint8_t {
  i8x32,    ///< int8, one scale per 32 (`fast`)
  i8x32r1,  ///< and an int8 residual for the block of 32 in every 256 with the largest scale
            ///< (`standard`)
  i14x256,  ///< 14-bit integers in two int8 planes, one scale per 256 (`standard`, sensitive
            ///< layers)
  f32,      ///< as they are (`exact`, and every layer with F32, F16 or BF16 weights)
};
inline constexpr int kIntForms = 3;

/// The kernels' families of layouts; formats with no family of their own are unpacked to f32
/// (correct, not small).
enum class Family : uint8_t { q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k, f16, bf16, f32 };
inline constexpr int kIntFamilies = 8;

}  // namespace ponder::backend::cpu
