// Q4_0: 32 weights, w = d * (q - 8), q in 0..15.
//   bytes 0-1  d, half precision
//   bytes 2-17 q: byte i holds weight i in its low and weight i + 16 in its high four bits
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q4_0;
constinit const Format format_q4_0 = Block32<4, false>::format(Type::q4_0, "Q4_0");

}  // namespace ponder::quant
