// The judge: a decoder in plain scalar code, straight from the dequantised weights. Every sum is
// accumulated in float64 in one order, every stored activation is float32, K and V are stored as
// the options say. It is as simple as it can be made, so that it can be believed; it is itself
// judged against PyTorch (golden_test.cpp). Slow: some hundred rows per second on a 135M model.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "backend/backend.h"

namespace ponder::backend::reference {

/// Rounds one row of inputs of a product in place: what a device's activation format keeps of it.
using Rounding = std::function<void(std::span<float>)>;

/// With a `rounding`, the inputs of every product with quantised weights pass through it: the judge of what an
/// activation format costs, and of a device that uses it. Called from one thread.
std::unique_ptr<Backend> make_backend(Rounding rounding = {});

}  // namespace ponder::backend::reference
