// Q5_0: 32 weights, w = d * (q - 16), q in 0..31.
//   bytes 0-1  d, half precision
//   bytes 2-5  the fifth bits: bit i of the little-endian word belongs to weight i
//   bytes 6-21 the low four bits: byte i holds weight i (low half) and weight i + 16 (high half)
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q5_0;
constinit const Format format_q5_0 = Block32<5, false>::format(Type::q5_0, "Q5_0");

}  // namespace ponder::quant
