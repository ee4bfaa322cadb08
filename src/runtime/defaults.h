// Sampling defaults of a model: what its publisher recommends, as far as the file and the manifest say.
#pragma once

#include <string>
#include <vector>

#include "gguf/gguf.h"
#include "runtime/types.h"

namespace ponder::runtime {

/// House defaults (Ollama's), then the publisher's values for model families that have them (R1 distills, Qwen3), then
/// general.sampling.* of the file, then the manifest's params; what comes later wins. Notes say what came from where, and
/// which values of the file were ignored because no request could send them.
Result<Options> model_defaults(const gguf::File& file, bool thinks, const std::string& params_json,
                               std::vector<std::string>& notes);

/// DeepSeek-R1 or one of its distills, by the names in the file.
bool is_deepseek_r1(const gguf::File& file);

}  // namespace ponder::runtime
