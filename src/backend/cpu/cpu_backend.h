// The CPU backend: quantised weights packed into panels (linear.h), everything else over 16 lanes (vector.h), a few
// barriers per layer on a pool of threads. The plan is in plan.h; docs/numerics.md is the contract of its numbers.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ponder::backend::cpu {

std::unique_ptr<Backend> make_backend();

}  // namespace ponder::backend::cpu
