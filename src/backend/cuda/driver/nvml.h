// Energy and memory of a card, from NVIDIA's management library (libnvidia-ml.so.1), loaded when asked for. For the
// benchmark; nothing depends on it. Source: NVML API reference.
#pragma once

#include <cstdint>
#include <optional>

namespace ponder::backend::cuda {

/// Millijoules that a card has used since the driver was loaded; nothing where the card or library does not tell.
std::optional<uint64_t> energy_millijoules(int card);
/// Bytes in use of a card's memory, all programs together (with what CUDA itself takes).
std::optional<uint64_t> memory_in_use(int card);

}  // namespace ponder::backend::cuda
