// What this machine can do at most, measured: the two numbers that bound decode (memory read) and prefill (int8
// multiply-adds). `ponder bench` and --verbose state every speed as a fraction of them, so they must come from the same
// minute as the speed: memory here has been seen at 31 and at 59 GB/s within minutes (cpu-measured.md).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/isa/isa.h"
#include "base/result.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {

struct MachineLimits {
  double read_gbs = 0;    ///< 10^9 bytes per second read from memory by all threads, one stream each
  double int8_gmacs = 0;  ///< 10^9 int8 multiply-adds per second in registers, at the level in use
};

/// Takes at most about 0.3 s for each number, and 256 MiB while it runs. Fails where that memory cannot be had.
Result<MachineLimits> measure_limits(int threads, isa::Level level = isa::active());

/// Reads `shares`, one for each thread of `pool` (their lengths are multiples of 256), with software prefetch and without:
/// 10^9 bytes per second of the better way. More bytes read slower, by the processor's tables of pages; so the limit of a
/// model is that of its own bytes (60 and 65 GB/s for 4 and 1.2 GB in the same minute).
double measure_read_gbs(ThreadPool& pool, const std::vector<std::span<const uint8_t>>& shares,
                        isa::Level level = isa::active());

/// One of the two alone.
Result<double> measure_read_gbs(int threads, isa::Level level = isa::active());
double measure_int8_gmacs(int threads, isa::Level level = isa::active());

}  // namespace ponder::backend::cpu
