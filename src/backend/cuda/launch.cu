#include "backend/cuda/launch.h"

namespace ponder::backend::cuda {
namespace {

__global__ void nothing_kernel() {}

}  // namespace

cudaError_t read_limits(int device, DeviceLimits* limits) {
  const auto get = [&](cudaDeviceAttr what, int* to) { return cudaDeviceGetAttribute(to, what, device); };
  cudaError_t e = cudaSetDevice(device);
  if (e == cudaSuccess) e = get(cudaDevAttrMultiProcessorCount, &limits->n_sms);
  if (e == cudaSuccess) e = get(cudaDevAttrMaxSharedMemoryPerBlockOptin, &limits->shared_per_block);
  if (e == cudaSuccess) e = get(cudaDevAttrMaxSharedMemoryPerMultiprocessor, &limits->shared_per_sm);
  // Any kernel of this build will do: all are compiled for the same architectures.
  cudaFuncAttributes code = {};
  if (e == cudaSuccess) e = cudaFuncGetAttributes(&code, nothing_kernel);
  limits->compute = code.ptxVersion;
  return e;
}

}  // namespace ponder::backend::cuda
