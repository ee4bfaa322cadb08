// The vocabulary of a synthetic model: another file's, or a small one of our own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "gguf/gguf.h"
#include "gguf/writer.h"

namespace ponder::synth {

/// A byte-level BPE vocabulary: 256 byte tokens, some English merges, and the R1 control tokens at
/// the end, filled up with unused [PADn] to `size`. `pre` is the pre-tokenizer's name in llama.cpp
/// ("qwen2", "llama-bpe", ...).
Result<void> add_own_vocabulary(uint64_t size, const std::string& pre, gguf::Writer& writer);

/// Tokens of the smallest own vocabulary.
uint64_t smallest_vocabulary();

/// Copies all tokenizer.* entries (the chat template among them); gives the number of tokens.
Result<uint64_t> copy_vocabulary(const gguf::File& from, gguf::Writer& writer);
Result<uint64_t> vocabulary_size(const gguf::File& from);

}  // namespace ponder::synth
