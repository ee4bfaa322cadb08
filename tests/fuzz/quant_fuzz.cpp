// Any bytes as blocks of every weight format: decode them, take their integers, and quantise any
// bytes as floats (infinities and NaN among them). Nothing may be undefined or read past the end.

// links: quant

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "quant/format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  size = std::min<size_t>(size, 4096);
  for (const ponder::quant::Format* f : ponder::quant::all_formats()) {
    // Exact allocations, so that a sanitizer sees one byte too many.
    const size_t n_blocks = size / f->block_bytes;
    const std::vector<uint8_t> blocks(data, data + n_blocks * f->block_bytes);
    std::vector<float> weights(n_blocks * f->block_size);
    f->dequantize(blocks.data(), weights.data(), n_blocks);
    for (size_t b = 0; b < n_blocks && f->decode_ints != nullptr; ++b) {
      ponder::quant::IntBlock ints;
      f->decode_ints(blocks.data() + b * f->block_bytes, &ints);
      for (uint32_t i = 0; i < f->block_size; ++i) {
        if (ints.q[i] >> f->bits != 0) std::abort();
      }
    }
    const size_t n_in = size / sizeof(float) / f->block_size;
    std::vector<float> in(n_in * f->block_size);
    if (n_in > 0) std::memcpy(in.data(), data, in.size() * sizeof(float));
    std::vector<uint8_t> out(n_in * f->block_bytes);
    f->quantize(in.data(), out.data(), n_in);
  }
  return 0;
}
