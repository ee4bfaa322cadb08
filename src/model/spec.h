// Internal to model/: the hyper-parameters of a file, before its tensors are looked at.
#pragma once

#include "base/result.h"
#include "model/arch/architecture.h"
#include "model/model.h"

namespace ponder::model {

/// The architecture that the file names; the error of an unknown one lists the known ones.
Result<const Architecture*> find_architecture(const gguf::File& file);

/// Sizes, epsilon and RoPE from the keys. Flags that tensors decide (biases, tied head), vocab_size
/// and n_parameters are filled in by load() from the tensor table.
Result<ModelSpec> read_hyper_parameters(const Architecture& architecture, const gguf::File& file);

}  // namespace ponder::model
