// For tests that promise not to allocate: replaces operator new of the whole test program by one that counts. Include it
// in one file of a program only. The thread sanitizer brings operators of its own, which cannot be replaced: nothing is counted
// there.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace ponder {

inline std::atomic<int64_t> allocations{0};

inline void* counted_new(std::size_t n) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(n == 0 ? 1 : n);
}

inline void* counted_new_or_throw(std::size_t n) {
  if (void* p = counted_new(n)) return p;
  throw std::bad_alloc();
}

}  // namespace ponder

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PONDER_THREAD_SANITIZER
#endif
#endif

#ifndef PONDER_THREAD_SANITIZER
void* operator new(std::size_t n) { return ponder::counted_new_or_throw(n); }
void* operator new[](std::size_t n) { return ponder::counted_new_or_throw(n); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return ponder::counted_new(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return ponder::counted_new(n); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
#endif
