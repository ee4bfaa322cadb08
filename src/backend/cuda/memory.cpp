// Next: placement.h, which says how much is taken before any of it is.
#include "backend/cuda/memory.h"

#include <cuda.h>

#include <algorithm>
#include <cstdio>

#include "base/checked.h"

namespace ponder::backend::cuda {
namespace {

constexpr uint64_t kGrowth = uint64_t(64) << 20;

// The driver's functions come through the runtime, which has loaded it; nothing links against libcuda.
struct VirtualMemory {
  CUresult (*granularity)(size_t*, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) = nullptr;
  CUresult (*reserve)(CUdeviceptr*, size_t, size_t, CUdeviceptr, unsigned long long) = nullptr;
  CUresult (*release_address)(CUdeviceptr, size_t) = nullptr;
  CUresult (*create)(CUmemGenericAllocationHandle*, size_t, const CUmemAllocationProp*, unsigned long long) = nullptr;
  CUresult (*release)(CUmemGenericAllocationHandle) = nullptr;
  CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long) = nullptr;
  CUresult (*unmap)(CUdeviceptr, size_t) = nullptr;
  CUresult (*set_access)(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t) = nullptr;
  bool complete = true;
};

const VirtualMemory& virtual_memory() {
  static const VirtualMemory loaded = [] {
    VirtualMemory v;
    const auto take = [&](auto& function, const char* name) {
      void* address = nullptr;
      cudaDriverEntryPointQueryResult found;
      const cudaError_t code = cudaGetDriverEntryPointByVersion(name, &address, 12000, cudaEnableDefault, &found);
      function = reinterpret_cast<std::decay_t<decltype(function)>>(address);
      v.complete = v.complete && code == cudaSuccess && address != nullptr;
    };
    take(v.granularity, "cuMemGetAllocationGranularity");
    take(v.reserve, "cuMemAddressReserve");
    take(v.release_address, "cuMemAddressFree");
    take(v.create, "cuMemCreate");
    take(v.release, "cuMemRelease");
    take(v.map, "cuMemMap");
    take(v.unmap, "cuMemUnmap");
    take(v.set_access, "cuMemSetAccess");
    return v;
  }();
  return loaded;
}

CUmemAllocationProp allocation_of(int device) {
  CUmemAllocationProp p = {};
  p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  p.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  p.location.id = device;
  return p;
}

Error no_room(uint64_t bytes, const std::string& what) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return Error{ErrorCode::out_of_memory, "the card has no room for " + gib(bytes) + " of " + what + ": " + gib(free) +
                                             " of " + gib(total) +
                                             " are free; ask for a shorter context, keep fewer layers on the card "
                                             "(--gpu-layers) or end what else uses it"};
}

}  // namespace

std::string gib(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", double(bytes) / double(uint64_t(1) << 30));
  return text;
}

Result<void> check(cudaError_t code, const std::string& doing) {
  if (code == cudaSuccess) return {};
  cudaGetLastError();  // a failed launch is reported once
  const ErrorCode kind = code == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::internal;
  return Error{kind, "the card: " + std::string(cudaGetErrorString(code)) + ", while " + doing};
}

Result<uint8_t*> DeviceMemory::take(uint64_t bytes, const std::string& what) {
  void* data = nullptr;
  const cudaError_t code = cudaMalloc(&data, bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return no_room(bytes, what);
  }
  PONDER_CHECK_OK(check(code, "taking " + gib(bytes) + " for " + what));
  return static_cast<uint8_t*>(data);
}

void DeviceMemory::release(uint8_t* data) { cudaFree(data); }

Result<uint8_t*> PinnedMemory::take(uint64_t bytes, const std::string& what) {
  void* data = nullptr;
  PONDER_CHECK_OK(check(cudaHostAlloc(&data, bytes, cudaHostAllocMapped),
                        "pinning " + gib(bytes) + " of the machine's memory for " + what));
  return static_cast<uint8_t*>(data);
}

void PinnedMemory::release(uint8_t* data) { cudaFreeHost(data); }

Result<GrowingBuffer> GrowingBuffer::reserve(int device, uint64_t capacity) {
  const VirtualMemory& v = virtual_memory();
  GrowingBuffer b;
  if (capacity == 0) return b;
  const CUmemAllocationProp prop = allocation_of(device);
  size_t granularity = 0;
  CUdeviceptr base = 0;
  if (!v.complete || v.granularity(&granularity, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
      granularity == 0)
    return Error{ErrorCode::unsupported, "the NVIDIA driver has no virtual memory management for this card"};
  b.step_ = align_up(kGrowth, granularity);
  capacity = align_up(capacity, b.step_);
  if (v.reserve(&base, capacity, 0, 0, 0) != CUDA_SUCCESS)
    return Error{ErrorCode::out_of_memory, "the card has no addresses for " + gib(capacity) + " of KV cache"};
  b.base_ = base;
  b.capacity_ = capacity;
  b.device_ = device;
  return b;
}

Result<void> GrowingBuffer::grow(uint64_t bytes, cudaStream_t stream) {
  const VirtualMemory& v = virtual_memory();
  if (bytes > capacity_) return Error{ErrorCode::internal, "a KV page past the cache's end"};
  while (backed_ < bytes) {
    const CUmemAllocationProp prop = allocation_of(device_);
    CUmemGenericAllocationHandle handle = 0;
    if (v.create(&handle, step_, &prop, 0) != CUDA_SUCCESS) return no_room(step_, "KV cache");
    const CUdeviceptr at = base_ + backed_;
    CUmemAccessDesc access = {};
    access.location = prop.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    const bool mapped = v.map(at, step_, 0, handle, 0) == CUDA_SUCCESS;
    v.release(handle);  // the mapping holds it from here on
    if (!mapped) return no_room(step_, "KV cache");
    if (v.set_access(at, step_, &access, 1) != CUDA_SUCCESS) {
      v.unmap(at, step_);
      return no_room(step_, "KV cache");
    }
    PONDER_CHECK_OK(check(cudaMemsetAsync(reinterpret_cast<void*>(at), 0, step_, stream), "clearing KV cache"));
    backed_ += step_;
  }
  return {};
}

GrowingBuffer& GrowingBuffer::operator=(GrowingBuffer&& o) noexcept {
  std::swap(base_, o.base_);
  std::swap(capacity_, o.capacity_);
  std::swap(backed_, o.backed_);
  std::swap(step_, o.step_);
  std::swap(device_, o.device_);
  return *this;
}

GrowingBuffer::~GrowingBuffer() {
  if (base_ == 0) return;
  const VirtualMemory& v = virtual_memory();
  for (uint64_t at = 0; at < backed_; at += step_) v.unmap(base_ + at, step_);
  v.release_address(base_, capacity_);
}

}  // namespace ponder::backend::cuda
