// Q5_K: a superblock of 256 weights in 8 sub-blocks of 32, w = d * scale * q - dmin * min; q in 0..31, scale and min in
// 0..63.
//   bytes 0-1    d, bytes 2-3 dmin, half precision
//   bytes 4-15   scales and minimums, 6 bits each (pack_scales)
//   bytes 16-47  the fifth bits: bit j of byte i belongs to weight i of sub-block j
//   bytes 48-175 the low four bits: group g of 32 bytes holds sub-block 2g (low half) and 2g + 1 (high half)
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q5_k;
constinit const Format format_q5_k = AffineBlock<5>::format(Type::q5_k, "Q5_K");

}  // namespace ponder::quant
