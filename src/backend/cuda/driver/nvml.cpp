#include "backend/cuda/driver/nvml.h"

#include <iterator>

#include "base/os/system.h"

namespace ponder::backend::cuda {
namespace {

struct Memory {  // nvmlMemory_t
  unsigned long long total, free, used;
};

struct Nvml {
  int (*handle)(unsigned, void**) = nullptr;
  int (*energy)(void*, unsigned long long*) = nullptr;
  int (*memory)(void*, Memory*) = nullptr;
};

// Null functions where there is no library. Loaded once, never closed.
const Nvml& nvml() {
  static const Nvml loaded = [] {
    constexpr const char* kNames[] = {"libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1"};
    static const auto library = os::SharedLibrary::open(kNames, int(std::size(kNames)));
    Nvml n;
    if (!library.ok()) return n;
    const auto init = reinterpret_cast<int (*)()>(library->symbol("nvmlInit_v2"));
    if (init == nullptr || init() != 0) return n;
    n.handle = reinterpret_cast<decltype(n.handle)>(library->symbol("nvmlDeviceGetHandleByIndex_v2"));
    n.energy = reinterpret_cast<decltype(n.energy)>(library->symbol("nvmlDeviceGetTotalEnergyConsumption"));
    n.memory = reinterpret_cast<decltype(n.memory)>(library->symbol("nvmlDeviceGetMemoryInfo"));
    return n;
  }();
  return loaded;
}

}  // namespace

std::optional<uint64_t> energy_millijoules(int card) {
  const Nvml& n = nvml();
  void* device = nullptr;
  unsigned long long energy = 0;
  if (n.handle == nullptr || n.energy == nullptr || n.handle(unsigned(card), &device) != 0 ||
      n.energy(device, &energy) != 0)
    return std::nullopt;
  return energy;
}

std::optional<uint64_t> memory_in_use(int card) {
  const Nvml& n = nvml();
  void* device = nullptr;
  Memory memory = {};
  if (n.handle == nullptr || n.memory == nullptr || n.handle(unsigned(card), &device) != 0 ||
      n.memory(device, &memory) != 0)
    return std::nullopt;
  return memory.used;
}

}  // namespace ponder::backend::cuda
