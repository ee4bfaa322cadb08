// Q5_1: 32 weights, w = d * q + m, q in 0..31.
//   bytes 0-1  d, bytes 2-3 m, half precision
//   bytes 4-7  the fifth bits: bit i of the little-endian word belongs to weight i
//   bytes 8-23 the low four bits: byte i holds weight i (low half) and weight i + 16 (high half)
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q5_1;
constinit const Format format_q5_1 = Block32<5, true>::format(Type::q5_1, "Q5_1");

}  // namespace ponder::quant
