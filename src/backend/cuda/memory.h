// The card's memory and the host's pinned memory as values that free themselves, and the runtime's error codes as Errors.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <utility>

#include "base/result.h"

namespace ponder::backend::cuda {

/// The Error of a failed call ("the card: out of memory while taking 4.20 GiB for weights"), or nothing.
Result<void> check(cudaError_t code, const std::string& doing);

/// "4.20 GiB".
std::string gib(uint64_t bytes);

/// Bytes that are given back with the object. `Memory` says from where: take() and release(), in memory.cpp.
template <class Memory>
class Buffer {
 public:
  Buffer() = default;
  /// `what` names it in the error: out of memory comes with what was asked for and what is free.
  static Result<Buffer> allocate(uint64_t bytes, const std::string& what) {
    if (bytes == 0) return Buffer();
    PONDER_TRY(uint8_t* const data, Memory::take(bytes, what));
    return Buffer(data, bytes);
  }
  Buffer(Buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) Memory::release(data_);
  }

  uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  Buffer(uint8_t* data, uint64_t size) : data_(data), size_(size) {}

  uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
};

struct DeviceMemory {
  static Result<uint8_t*> take(uint64_t bytes, const std::string& what);
  static void release(uint8_t* data);
};
struct PinnedMemory {
  static Result<uint8_t*> take(uint64_t bytes, const std::string& what);
  static void release(uint8_t* data);
};

/// Bytes on the current device, from cudaMalloc.
using DeviceBuffer = Buffer<DeviceMemory>;
/// Host memory that the card can read and write directly.
using PinnedBuffer = Buffer<PinnedMemory>;

/// A range of device addresses of which only the beginning is backed by memory, grown in steps: KV pages take memory
/// when they are first used, and never move. Source: CUDA driver API, virtual memory management.
class GrowingBuffer {
 public:
  GrowingBuffer() = default;
  static Result<GrowingBuffer> reserve(int device, uint64_t capacity);
  GrowingBuffer(GrowingBuffer&& o) noexcept { *this = std::move(o); }
  GrowingBuffer& operator=(GrowingBuffer&& o) noexcept;
  ~GrowingBuffer();

  /// Backs the first `bytes` with zeroed memory; an Error (out_of_memory, with numbers) changes nothing.
  Result<void> grow(uint64_t bytes, cudaStream_t stream);
  uint8_t* data() const { return reinterpret_cast<uint8_t*>(base_); }
  uint64_t backed() const { return backed_; }

 private:
  unsigned long long base_ = 0;
  uint64_t capacity_ = 0, backed_ = 0, step_ = 0;
  int device_ = 0;
};

}  // namespace ponder::backend::cuda
