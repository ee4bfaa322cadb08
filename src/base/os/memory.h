// Memory of the machine and of this process, and big aligned blocks for weights and KV pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace ponder::os {

/// Zeroed anonymous memory, aligned to 2 MiB, asked to use huge pages (4 KiB pages cost 2-40 % of decode speed,
/// research/cpu-measured.md section 1). Pages are only backed by memory once written.
class Arena {
 public:
  Arena() = default;
  static Result<Arena> allocate(uint64_t bytes, bool huge_pages = true);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }

  /// Gives the memory of a range back to the system; it reads as zero afterwards.
  void discard(uint64_t offset, uint64_t bytes) const;

 private:
  uint8_t* base_ = nullptr;
  uint64_t mapped_ = 0;
  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

/// Physical memory, and what could be used now without swapping (containers' limits respected), in bytes.
struct MemoryInfo {
  uint64_t total = 0;
  uint64_t available = 0;
};
/// `cgroup`: where Linux lists a container's limit and use (cgroup v2).
MemoryInfo memory_info(const std::string& cgroup = "/sys/fs/cgroup");

/// Resident set of this process now, and its peak so far, in bytes.
struct ProcessMemory {
  uint64_t resident = 0;
  uint64_t peak = 0;
};
ProcessMemory process_memory();

}  // namespace ponder::os
