// Q4_K: a superblock of 256 weights in 8 sub-blocks of 32, w = d * scale * q - dmin * min; q in 0..15, scale and min in
// 0..63.
//   bytes 0-1    d, bytes 2-3 dmin, half precision
//   bytes 4-15   scales and minimums, 6 bits each (pack_scales)
//   bytes 16-143 q: 4 groups of 32 bytes; group g holds sub-block 2g in the low and 2g + 1 in the high four bits
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_q4_k;
constinit const Format format_q4_k = AffineBlock<4>::format(Type::q4_k, "Q4_K");

}  // namespace ponder::quant
