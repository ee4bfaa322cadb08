// Synthetic model files: the R1 family's shapes (or any other) with random weights, for tests and
// benchmarks where no weights can be had; and the conversion of a real file to another weight
// format, for accuracy gates.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "synth/mix.h"
#include "synth/shape.h"

namespace ponder::synth {

struct Options {
  Shape shape;
  std::string type = "Q4_K_M";
  uint64_t seed = 1;
  std::string vocab_from;  ///< a GGUF file to copy tokenizer.* from; its vocabulary size replaces
                           ///< shape.vocab
  std::string pre;         ///< pre-tokenizer of the built-in vocabulary; empty: the architecture's usual one
};

/// Writes the model, streaming. The same options give the same file.
Result<void> write_model(const Options& options, const std::string& path);

/// Writes `in` with every matrix in another format (norms and biases in F32), streaming.
Result<void> convert(const std::string& in, const std::string& out, const std::string& type);

}  // namespace ponder::synth
