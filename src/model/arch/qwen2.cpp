// Qwen2 and Qwen2.5, and so the DeepSeek-R1-Distill-Qwen family: the common decoder with biases on
// q, k and v. Source: Qwen2 technical report (Yang et al. 2024), section 2; transformers,
// models/qwen2.
#include "model/arch/architecture.h"

namespace ponder::model::arch {

extern const Architecture qwen2;
const Architecture qwen2{.name = "qwen2", .rope_layout = RopeLayout::halves, .qkv_bias = Presence::required};

}  // namespace ponder::model::arch
