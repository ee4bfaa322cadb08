// Memory that request bodies of all connections may take together. It is counted as bytes arrive, not as they are announced:
// a peer that announces much and sends nothing keeps nobody else out.
#pragma once

#include <atomic>
#include <cstdint>

namespace ponder::server {

class BodyMemory {
 public:
  explicit BodyMemory(uint64_t limit) : limit_(limit) {}
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_; }

  /// One request's part of it; given back when this ends.
  class Share {
   public:
    explicit Share(BodyMemory& memory) : memory_(memory) {}
    ~Share() { memory_.used_ -= held_; }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    /// The request now holds `bytes` in all; false when all together would pass the limit (nothing has changed then).
    bool grow_to(uint64_t bytes) {
      if (bytes <= held_) return true;
      const uint64_t more = bytes - held_;
      uint64_t used = memory_.used_;
      do {
        if (more > memory_.limit_ - used) return false;
      } while (!memory_.used_.compare_exchange_weak(used, used + more));
      held_ = bytes;
      return true;
    }

   private:
    BodyMemory& memory_;
    uint64_t held_ = 0;
  };

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

}  // namespace ponder::server
