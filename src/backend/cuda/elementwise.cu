#include "backend/cuda/elementwise.h"

namespace ponder::backend::cuda {
namespace {

__global__ void rope_table_kernel(const double* inverse_frequencies, int n, double magnitude, int positions,
                                  float2* out) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= int64_t(positions) * n) return;
  double sine, cosine;
  sincos(double(i / n) * inverse_frequencies[i % n], &sine, &cosine);
  out[i] = make_float2(float(cosine * magnitude), float(sine * magnitude));
}

__global__ void gather_rows_kernel(const float* from, int64_t stride, const int32_t* rows, int width, float* to) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  const int i = blockIdx.y, row = rows[i];
  for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < width; c += gridDim.x * blockDim.x)
    to[int64_t(i) * width + c] = row < 0 ? 0.f : from[row * stride + c];
}

}  // namespace

cudaError_t make_rope_table(const double* inverse_frequencies, int n, double magnitude, int positions, float2* out,
                            cudaStream_t stream) {
  const int64_t count = int64_t(positions) * n;
  if (count == 0) return cudaSuccess;
  rope_table_kernel<<<unsigned((count + 255) / 256), 256, 0, stream>>>(inverse_frequencies, n, magnitude, positions,
                                                                       out);
  return cudaGetLastError();
}

cudaError_t gather_rows(const float* from, int64_t stride, const int32_t* rows, int n, int width, float* to,
                        const Launch& launch) {
  const dim3 grid(unsigned((width + 1023) / 1024), unsigned(n));
  return launch_kernel(gather_rows_kernel, grid, dim3(256), 0, launch, from, stride, rows, width, to);
}

}  // namespace ponder::backend::cuda
