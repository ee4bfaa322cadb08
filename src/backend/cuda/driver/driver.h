// The NVIDIA driver as a library that may be missing: which cards are there, and a sentence for a person when none can be
// used. Needs no CUDA toolkit, creates no context and takes no memory of a card.
// Source: CUDA Driver API reference (cuInit, cuDriverGetVersion, cuDeviceGet...).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace ponder::backend::cuda {

/// The driver must offer at least this CUDA version for our runtime (13.0: driver 580).
constexpr int kRequiredDriverVersion = 13000;
/// Oldest cards there are kernels for: Turing.
constexpr int kRequiredCapability = 75;

struct Card {
  int index = 0;
  std::string name = {};  ///< "NVIDIA H100 80GB HBM3"
  int capability = 0;     ///< 90 for compute capability 9.0
  uint64_t memory = 0;    ///< bytes in all
  bool usable() const { return capability >= kRequiredCapability; }
};

/// The functions of libcuda.so.1 that are needed before anything else is known. A struct, so that tests can play a driver.
struct DriverApi {
  int (*init)(unsigned) = nullptr;
  int (*driver_version)(int*) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*device_name)(char*, int, int) = nullptr;
  int (*device_memory)(size_t*, int) = nullptr;
  int (*device_attribute)(int*, int, int) = nullptr;
};

/// Loads libcuda.so.1 from where the system keeps it, or from WSL's folder. Stays loaded, so that the CUDA runtime finds
/// the same one. Without a driver (code not_found) this is simply a machine without a card.
Result<DriverApi> load_driver();

/// The usable cards, at least one. Errors (code unsupported) say what is wrong with driver or cards and what to do.
Result<std::vector<Card>> find_cards(const DriverApi& driver);
Result<std::vector<Card>> find_cards();

}  // namespace ponder::backend::cuda
