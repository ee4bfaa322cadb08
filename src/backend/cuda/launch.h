// What a kernel launch needs to know of its surroundings, and the numbers of the card that decide grids and tiles.
#pragma once

#include <cuda_runtime.h>

namespace ponder::backend::cuda {

/// Read once per device.
struct DeviceLimits {
  int n_sms = 1;
  /// Architecture of the code that runs, 10 * major + minor: older than the card where the driver compiled it from PTX.
  /// It decides what kernels can do (griddepcontrol, wgmma), so nothing asks the card itself.
  int compute = 80;
  int shared_per_block = 99 << 10;  ///< what a block may ask for (opt-in)
  int shared_per_sm = 100 << 10;
};
/// cudaErrorNoKernelImageForDevice: this build has nothing for the card. Makes the device the current one.
cudaError_t read_limits(int device, DeviceLimits* limits);

/// Where and how to launch. With `pdl` (compute >= 90) kernels are launched with programmatic stream serialisation:
/// they begin while their predecessor ends and wait for its results themselves (griddepcontrol). All kernels of this
/// folder wait before they read what an earlier kernel wrote, and before they write anything; weights, norms and
/// biases are read before the wait, so nothing on the stream may write those.
/// Positions, page tables and token ids are read after it.
struct Launch {
  cudaStream_t stream = nullptr;
  const DeviceLimits* limits = nullptr;
  bool pdl = false;
};

/// kernel<<<grid, block, shared, stream>>>(args...), with the launch's attributes. `shared` beyond 16 KiB must have been
/// allowed for the kernel (allow_shared).
template <typename... Parameters, typename... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, const Launch& launch,
                          Arguments... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = launch.pdl ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

/// Lets a kernel ask for `bytes` of shared memory (cheap; called before each launch). Without it 48 KiB are allowed, what
/// the kernel declares itself included.
template <typename Kernel>
cudaError_t allow_shared(Kernel* kernel, size_t bytes) {
  if (bytes <= 16 << 10) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
}

}  // namespace ponder::backend::cuda
