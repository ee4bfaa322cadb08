// The randomness of a draw: a counter-based generator and a logarithm in fixed software arithmetic,
// so that every device gets the same bits. A backend that draws on its device must implement
// exactly this (docs/numerics.md):
//   counter = (token / 4, position, stream, kNoiseDomain), key = (low, high word of seed),
//   Philox-4x32-10; w = word number token % 4;  u = (w + 1/2) / 2^32;  gumbel = float(-log(-log u))
//   with log = log_fixed.
// Source: Salmon et al. 2011 (Philox), https://doi.org/10.1145/2063384.2063405.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace ponder::sample {

/// Last counter word of every draw: keeps other uses of the same seed apart from it.
constexpr uint32_t kNoiseDomain = 0x504e4452u;  // "PNDR"

using PhiloxBlock = std::array<uint32_t, 4>;

/// Philox-4x32 with ten rounds.
PhiloxBlock philox(PhiloxBlock counter, uint64_t key);

/// The four noise words of the tokens 4 * group ... 4 * group + 3.
PhiloxBlock noise_words(uint64_t seed, uint32_t stream, uint32_t position, uint32_t group);

/// -log(-log u) of a noise word: between about -3.1 and 22.9.
float gumbel_of_word(uint32_t word);

/// A bound that is never below gumbel_of_word(word), without a logarithm: -log u >= 1 - u.
inline float gumbel_bound(uint32_t word) { return 0.69315f * float(std::countl_zero(~word) + 1) + 1e-3f; }

/// Natural logarithm of a positive normal double; relative error below 1e-11. Only +, -, * and / of
/// double, each rounded to nearest and none of them contracted.
double log_fixed(double x);

}  // namespace ponder::sample
