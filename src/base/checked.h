// Arithmetic on sizes that come from a file or a request. Sizes are 64-bit; anything that would wrap is an empty
// optional, and the caller turns that into an Error that names the field.
#pragma once

#include <cstdint>
#include <optional>

namespace ponder {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

/// `value` rounded up to a multiple of `alignment` (a power of two).
inline std::optional<uint64_t> checked_align(uint64_t value, uint64_t alignment) {
  auto r = checked_add(value, alignment - 1);
  if (!r) return std::nullopt;
  return *r & ~(alignment - 1);
}

/// True when [offset, offset + size) lies inside [0, total).
inline bool fits(uint64_t offset, uint64_t size, uint64_t total) { return offset <= total && size <= total - offset; }

constexpr uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace ponder
