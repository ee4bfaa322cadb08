// Qwen3 (dense), and so DeepSeek-R1-0528-Qwen3: no biases; every q and k head passes an RMS norm
// before RoPE, and the heads' size is a number of its own (heads * head_dim may differ from
// hidden_size). Source: Qwen3 technical report (Yang et al. 2025), section 2; transformers,
// models/qwen3.
#include "model/arch/architecture.h"

namespace ponder::model::arch {

extern const Architecture qwen3;
const Architecture qwen3{
    .name = "qwen3", .rope_layout = RopeLayout::halves, .qkv_bias = Presence::optional, .qk_norm = Presence::required};

}  // namespace ponder::model::arch
