// What a kernel launch needs to know of its surroundings, and the numbers of the card that decide grids and tiles.
#pragma once

#include <cuda_runtime.h>

namespace ponder::backend::cuda {

/// Read once per device.
struct DeviceLimits {
  int n_sms = 1;
  int compute = 80;                 ///< 10 * major + minor
  int shared_per_block = 99 << 10;  ///< what a block may ask for (opt-in)
  int shared_per_sm = 100 << 10;
};
cudaError_t read_limits(int device, DeviceLimits* limits);

/// Where and how to launch. With `pdl` (compute >= 90) kernels are launched with programmatic stream serialisation:
/// they begin while their predecessor ends and wait for its results themselves (griddepcontrol). All kernels of this
/// folder wait before they read what an earlier kernel wrote, and before they write anything; weights, norms, biases
/// and page tables of the launch are read before the wait, so nothing on the stream may write those.
struct Launch {
  cudaStream_t stream = nullptr;
  const DeviceLimits* limits = nullptr;
  bool pdl = false;
};

}  // namespace ponder::backend::cuda
