// Llama 1 to 3, Mistral, SmolLM2 and everything else that is published as "llama",
// DeepSeek-R1-Distill-Llama among them. The converter permutes the rows of q and k, so that RoPE
// rotates neighbouring pairs. Biases are rare but exist (attention_bias in transformers'
// configuration). Source: Touvron et al. 2023; Grattafiori et al. 2024 (RoPE scaling);
// transformers, models/llama.
#include "model/arch/architecture.h"

namespace ponder::model::arch {

extern const Architecture llama;
const Architecture llama{.name = "llama",
                         .rope_layout = RopeLayout::pairs,
                         .qkv_bias = Presence::optional,
                         .output_bias = Presence::optional};

}  // namespace ponder::model::arch
