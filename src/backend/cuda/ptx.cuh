// The few machine instructions that the kernels are made of, one function each: shared-memory loads, asynchronous
// copies, matrix products, programmatic dependent launch. Older cards get the same function from smaller instructions
// (sm_75: matrix products of 8 rows, plain copies), so that no kernel asks for the architecture.
// Source: PTX ISA 9.0, sections "mma", "cp.async", "griddepcontrol".
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace ponder::backend::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ __forceinline__ uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ uint32_t load_shared32(uint32_t a) {
  uint32_t v;
  asm volatile("ld.shared.u32 %0,[%1];" : "=r"(v) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ int load_shared_s16(uint32_t a) {
  int v;
  asm volatile("ld.shared.s16 %0,[%1];" : "=r"(v) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ uint2 load_shared64(uint32_t a) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0,%1},[%2];" : "=r"(v.x), "=r"(v.y) : "r"(a) : "memory");
  return v;
}
__device__ __forceinline__ uint4 load_shared128(uint32_t a) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(a) : "memory");
  return v;
}

/// 16 bytes from global to shared memory, in the background; `bytes` < 16 fills the rest with zeros.
__device__ __forceinline__ void copy_async16(uint32_t to, const void* from, int bytes = 16) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global.L2::128B [%0],[%1],16,%2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
  const uint4 v = bytes == 16 ? *static_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
  asm volatile("st.shared.v4.u32 [%0],{%1,%2,%3,%4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#endif
}
/// The same for 4 bytes.
__device__ __forceinline__ void copy_async4(uint32_t to, const void* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0],[%1],4;" ::"r"(to), "l"(from) : "memory");
#else
  asm volatile("st.shared.u32 [%0],%1;" ::"r"(to), "r"(*static_cast<const uint32_t*>(from)) : "memory");
#endif
}
__device__ __forceinline__ void copy_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits until at most N of this thread's latest groups are still on their way.
template <int N>
__device__ __forceinline__ void copy_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/// Lets the next kernel of the stream begin (it still waits for this one's results).
__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// Waits for everything that earlier kernels of the stream wrote.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// c += A B: 16 rows x 32 of bytes (A unsigned unless kSigned) times 32 x 8 signed bytes.
/// a0: row g, k 4t..; a1: row g+8; a2, a3: the same rows, k 16+4t..; b0, b1: column g, k 4t.., 16+4t..;
/// c0, c1: row g, columns 2t, 2t+1; c2, c3: row g+8.
template <bool kSigned>
__device__ __forceinline__ void mma_bytes(int* c, uint4 a, uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  // Lane words come as {row g, row g+8, row g + 16 columns, row g+8 + 16 columns}: x, y, z, w.
  if constexpr (kSigned) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
  }
#else
  const auto part = [](int* d, uint32_t x, uint32_t b) {
    if constexpr (kSigned) {
      asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
          : "+r"(d[0]), "+r"(d[1])
          : "r"(x), "r"(b));
    } else {
      asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
          : "+r"(d[0]), "+r"(d[1])
          : "r"(x), "r"(b));
    }
  };
  part(c, a.x, b0);
  part(c, a.z, b1);
  part(c + 2, a.y, b0);
  part(c + 2, a.w, b1);
#endif
}

/// c += A B with 16 unsigned bytes a row: the halves of mma_bytes.
__device__ __forceinline__ void mma_bytes_k16(int* c, uint32_t a0, uint32_t a1, uint32_t b) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(b));
#else
  asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
      : "+r"(c[0]), "+r"(c[1])
      : "r"(a0), "r"(b));
  asm("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1},{%2},{%3},{%0,%1};"
      : "+r"(c[2]), "+r"(c[3])
      : "r"(a1), "r"(b));
#endif
}

/// c += A B in half precision with float sums: 16 rows x 16 times 16 x 8.
/// a0: row g, k 2t, 2t+1; a1: row g+8; a2, a3: k 2t+8, +9; b0, b1: column g, k 2t.., 2t+8..
__device__ __forceinline__ void mma_halves(float* c, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                           uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(b0));
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a2), "r"(a3), "r"(b1));
#endif
}

/// The same for numbers of bfloat16: a.x: row g, a.y: row g+8, k 2t, 2t+1; a.z, a.w: k 2t+8, +9.
__device__ __forceinline__ void mma_bfloats(float* c, const uint4& a, uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
  // These cards have no such instruction: every lane fetches the two rows and two columns of its four sums.
  const int lane = threadIdx.x & 31, g4 = lane & ~3, t8 = (lane & 3) * 8;
  const auto add = [](float* to, uint32_t u, uint32_t v) {
    *to = __fmaf_rn(__uint_as_float(u << 16), __uint_as_float(v << 16), *to);
    *to = __fmaf_rn(__uint_as_float(u & 0xffff0000u), __uint_as_float(v & 0xffff0000u), *to);
  };
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t b = half ? b1 : b0;
      const uint32_t u = __shfl_sync(kAllLanes, half ? a.z : a.x, g4 + i),
                     v = __shfl_sync(kAllLanes, half ? a.w : a.y, g4 + i), p = __shfl_sync(kAllLanes, b, t8 + i),
                     q = __shfl_sync(kAllLanes, b, t8 + 4 + i);
      add(c, u, p), add(c + 1, u, q), add(c + 2, v, p), add(c + 3, v, q);
    }
#endif
}

__device__ __forceinline__ uint32_t as_bits(__half2 h) { return *reinterpret_cast<uint32_t*>(&h); }
__device__ __forceinline__ __half2 as_half2(uint32_t u) { return *reinterpret_cast<__half2*>(&u); }

}  // namespace ponder::backend::cuda
