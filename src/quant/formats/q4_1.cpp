// Q4_1: 32 weights, w = d * q + m, q in 0..15.
//   bytes 0-1  d, bytes 2-3 m, half precision
//   bytes 4-19 q: byte i holds weight i in its low and weight i + 16 in its high four bits
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q4_1;
constinit const Format format_q4_1 = Block32<4, true>::format(Type::q4_1, "Q4_1");

}  // namespace ponder::quant
