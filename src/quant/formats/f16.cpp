// F16: IEEE half precision, little-endian; widening to float32 is exact.
#include "quant/families.h"

namespace ponder::quant {

extern const Format format_f16;
constinit const Format format_f16 = ShortFloats<half_to_float, float_to_half>::format(Type::f16, "F16");

}  // namespace ponder::quant
