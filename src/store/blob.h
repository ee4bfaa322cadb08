// The inside of a BlobWriter. Internal to this library.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "base/os/file.h"
#include "store/sha256.h"
#include "store/store.h"

namespace ponder::store {

struct BlobWriter::State {
  std::string root, path;
  std::optional<os::FileLock> lock;  // on the temporary file itself
  std::FILE* file = nullptr;
  Sha256 hash;
  uint64_t size = 0;
  std::optional<Digest> digest;
  bool committed = false;
  ~State();
};

}  // namespace ponder::store
