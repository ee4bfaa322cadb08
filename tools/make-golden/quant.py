#!/usr/bin/env python3
"""Writes tests/golden/quant/: random blocks of every weight format and what the `gguf` package makes of them.

    pip install gguf numpy && python3 tools/make-golden/quant.py

<format>.decode.bin  u32 number of blocks | the blocks | float32 of every weight
<format>.encode.bin  u32 number of blocks | float32 of every weight | the blocks `gguf` quantises them to
                     (the formats that package can write; the K formats have no reference there)
Scales are random half-precision bit patterns: both signs, subnormals and zero; no infinities or NaN.
"""
import pathlib
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "quant"

# Where the half-precision fields of a block lie.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def finite_halves(rng, n):
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0xBFFF  # exponent 31 -> 15
    bits[: n // 8] &= 0x83FF  # an eighth subnormal
    bits[0] = 0
    return bits


def decode_case(rng, t):
    size, nbytes = GGML_QUANT_SIZES[t]
    n = 512 if size == 1 else 96 if size == 32 else 32
    if t == T.F32:
        blocks = rng.normal(size=n).astype(np.float32).view(np.uint8)
    elif t == T.F16:
        blocks = finite_halves(rng, n).view(np.uint8)
    elif t == T.BF16:
        bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
        bits[(bits & 0x7F80) == 0x7F80] &= 0xBFFF
        blocks = bits.view(np.uint8)
    else:
        blocks = rng.integers(0, 256, (n, nbytes), dtype=np.uint8)
        for at in HALVES[t]:
            blocks[:, at : at + 2] = finite_halves(rng, n).reshape(n, 1).view(np.uint8)
    want = dequantize(blocks.reshape(-1), t)
    assert want.dtype == np.float32 and want.size == n * size and not np.isnan(want).any()
    return struct.pack("<I", n) + blocks.tobytes() + want.tobytes()


def encode_case(rng, t):
    size, _ = GGML_QUANT_SIZES[t]
    n = 512 if size == 1 else 64
    x = rng.normal(size=(n, size)).astype(np.float32)
    x *= np.exp(rng.uniform(-6, 6, (n, 1))).astype(np.float32)  # scales from 0.002 to 400
    x[0] = 0
    return struct.pack("<I", n) + x.tobytes() + quantize(x.reshape(-1), t).tobytes()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for t in [T.F32, T.F16, T.BF16, *HALVES]:
        rng = np.random.default_rng(int(t) + 1)
        (OUT / f"{t.name.lower()}.decode.bin").write_bytes(decode_case(rng, t))
        if t not in (T.Q4_K, T.Q5_K, T.Q6_K):
            (OUT / f"{t.name.lower()}.encode.bin").write_bytes(encode_case(rng, t))


if __name__ == "__main__":
    main()
