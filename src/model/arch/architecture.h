// An architecture: its name in general.architecture, and what tells it from the common decoder. One
// file per architecture defines one of these (its name is the file's name); CMake collects them, no
// list is edited.
#pragma once

#include "base/result.h"
#include "model/keys.h"
#include "model/model.h"

namespace ponder::model {

/// Whether the tensors behind a flag must be there. `optional` is decided by the file, for all
/// layers alike.
enum class Presence : uint8_t { never, optional, required };

struct Architecture {
  const char* name;  ///< general.architecture, also the prefix of the file's keys
  RopeLayout rope_layout = RopeLayout::halves;
  Presence qkv_bias = Presence::never;
  Presence output_bias = Presence::never;
  Presence qk_norm = Presence::never;
  /// What the table above cannot say, after the common keys were read; may be null.
  Result<void> (*refine)(const Keys& keys, ModelSpec& spec) = nullptr;
};

}  // namespace ponder::model
