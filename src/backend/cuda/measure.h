// What a card can deliver at best, for benchmarks and for "which fraction of it is this".
#pragma once

#include "base/result.h"

namespace ponder::backend::cuda {

/// Bytes per second that reading 2 GiB (or half of what is free) of the current card's memory once takes; the best of a
/// few runs.
Result<double> read_bandwidth();

}  // namespace ponder::backend::cuda
