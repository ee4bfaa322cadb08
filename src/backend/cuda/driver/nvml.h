// Energy and power of a card, from NVIDIA's management library (libnvidia-ml.so.1), loaded when asked for. For the
// benchmark; nothing depends on it. Source: NVML API reference.
#pragma once

#include <cstdint>
#include <optional>

namespace ponder::backend::cuda {

/// Millijoules that a card has used since the driver was loaded; nothing where the card or library does not tell.
std::optional<uint64_t> energy_millijoules(int card);

}  // namespace ponder::backend::cuda
