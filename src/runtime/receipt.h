// A receipt: everything that determined a reply, so that it can be repeated and checked token by token (docs/receipts.md).
// Made from what the engine recorded; `ponder replay` reads it (runtime/replay.h).
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine/recording.h"
#include "runtime/loaded_model.h"

namespace ponder::runtime {

struct Receipt {
  std::string model, model_digest;    ///< name or path as it was asked for; SHA-256 of the file
  std::string version, build_digest;  ///< of the program: kVersion, SHA-256 of the executable
  std::string backend, device, isa, numerics_id, precision, kv_format, placement;
  std::string made_at;               ///< RFC 3339
  engine::SequenceRequest sequence;  ///< prompt, sampling, stream, limits, end tokens
  engine::Recording recording;
  std::string done_reason;
  std::string prompt_digest, output_digest;  ///< SHA-256 of the ids as little-endian 32-bit numbers
};

/// `sequence` as it was submitted; `done_reason` as the engine gave it.
Receipt make_receipt(const LoadedModel& model, const std::string& name, const engine::SequenceRequest& sequence,
                     const engine::Recording& recording, const std::string& done_reason);

/// Writes the digests of prompt and output.
void seal(Receipt& receipt);

nlohmann::json to_json(const Receipt& receipt);
/// Takes the receipt itself or a whole reply that has one in "receipt". Errors name the field. The ids must agree with
/// their digests.
Result<Receipt> receipt_from(const nlohmann::json& object);

/// The ids that the recording leaves behind: drawn and forced, without what a rewind dropped.
std::vector<tokenizer::TokenId> output_of(const engine::Recording& recording, int prompt_size);

/// SHA-256 of the model's file in hex; of a split file, of its parts' digests. Known from the store where it has one, else
/// all bytes are read.
std::string model_digest(const OpenModel& model);
/// SHA-256 of this program's file; empty where it cannot be read.
const std::string& build_digest();

}  // namespace ponder::runtime
