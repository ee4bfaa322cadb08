// What a card can deliver at best, for benchmarks and for "which fraction of it is this".
#pragma once

#include "base/result.h"

namespace ponder::backend::cuda {

/// Bytes per second of reading 2 GiB (or half of what is free) of a card's memory once; the best of a few runs.
Result<double> read_bandwidth(int card);

}  // namespace ponder::backend::cuda
