// The judge: a decoder in plain scalar code, straight from the dequantised weights. Every sum is
// accumulated in float64 in one order, every stored activation is float32, K and V are stored as
// the options say. It is as simple as it can be made, so that it can be believed; it is itself
// judged against PyTorch (golden_test.cpp). Slow: some hundred rows per second on a 135M model.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace ponder::backend::reference {

std::unique_ptr<Backend> make_backend();

}  // namespace ponder::backend::reference
