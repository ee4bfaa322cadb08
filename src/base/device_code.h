// Code that a graphics card runs as well as the host: one source for arithmetic that has to give the same bits on both.
// Such functions use no standard library beyond what is constant (std::array has no device code) and no libm.
#pragma once

#ifdef __CUDACC__
#define PONDER_HOST_DEVICE __host__ __device__
#else
#define PONDER_HOST_DEVICE
#endif
