// BF16: the upper half of a float32, little-endian; widening is exact.
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_bf16;
constinit const Format format_bf16 = ShortFloats<bfloat16_to_float, float_to_bfloat16>::format(Type::bf16, "BF16");

}  // namespace ponder::quant
