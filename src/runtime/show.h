// What `show` and /api/show tell about a model, from its metadata alone.
#pragma once

#include "runtime/loaded_model.h"
#include "runtime/types.h"

namespace ponder::runtime {

Result<ShowResult> describe_model(const OpenModel& model, bool verbose);

}  // namespace ponder::runtime
