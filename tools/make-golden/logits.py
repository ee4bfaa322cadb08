"""Makes tests/golden/logits: small random models for every flag of a decoder, and the logits that PyTorch gives for them
and for the real test models. Usage: logits.py [NAME...] from the repository's root, with the Python of judge.py.

A NAME.logits file, little-endian: "PLG1", i32 n_ids, ids; i32 n_positions; for each: i32 position, i32 n, n token ids,
n float32 logits. The real models' positions keep the 256 largest logits and 256 at random, the small ones all."""
import os
import struct
import subprocess
import sys
import zlib

import gguf
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import judge

OUT = "tests/golden/logits"
SEEDS = "tests/fuzz/corpus/model"
CACHE = os.environ.get("PONDER_MODEL_CACHE", os.path.expanduser("~/.cache/ponder-tests"))
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# name: architecture, sizes and flags, and transformers' rope_scaling
CASES = {
    "qwen2-untied": dict(arch="qwen2", heads=4, kv=2, bias=True),
    "qwen2-tied-mqa": dict(arch="qwen2", heads=4, kv=1, bias=True, tied=True),
    "qwen2-yarn": dict(arch="qwen2", heads=2, kv=1, bias=True, context=32, base=1e4, scaling=dict(rope_type="yarn", factor=4.0)),
    "llama-tied": dict(arch="llama", heads=6, kv=2, tied=True),
    "llama-mha-f32": dict(arch="llama", heads=2, kv=2, f32=True, hidden=32),
    "llama-biases": dict(arch="llama", heads=4, kv=2, bias=True, output_bias=True),
    "llama-linear": dict(arch="llama", heads=3, kv=1, scaling=dict(rope_type="linear", factor=4.0)),
    "llama-llama3-keys": dict(arch="llama", heads=2, kv=1, base=1e3, context=64, scaling=LLAMA3),
    "llama-llama3-tensor": dict(arch="llama", heads=2, kv=1, base=1e3, context=64, scaling=LLAMA3, freqs=True),
    "llama-partial-rope": dict(arch="llama", heads=2, kv=1, rotated=12),
    "qwen3-wide-heads": dict(arch="qwen3", heads=4, kv=2, head_dim=20),
    "qwen3-yarn": dict(arch="qwen3", heads=3, kv=1, head_dim=24, context=32, tied=True,
                       scaling=dict(rope_type="yarn", factor=4.0, attention_factor=0.88 * (0.1 * np.log(4.0) + 1)), attn_factor=0.88),
}


def permute(w, n_heads, rotated):
    """llama.cpp's converter: rows of a head in the order that RoPE by pairs needs."""
    head_dim = w.shape[0] // n_heads
    w = w.reshape(n_heads, head_dim, *w.shape[1:])
    turned = w[:, :rotated].reshape(n_heads, 2, rotated // 2, *w.shape[2:]).swapaxes(1, 2).reshape(n_heads, rotated, *w.shape[2:])
    return np.concatenate((turned, w[:, rotated:]), 1).reshape(n_heads * head_dim, *w.shape[2:])


def write_model(path, name, c):
    r = np.random.RandomState(zlib.crc32(name.encode()))
    arch, heads, kv, hidden, vocab, ffn, layers = c["arch"], c["heads"], c["kv"], c.get("hidden", 48), c.get("vocab", 96), c.get("ffn", 64), c.get("layers", 2)
    d = c.get("head_dim", hidden // heads)
    rotated, base, context = c.get("rotated", d), c.get("base", 1e4), c.get("context", 512)
    scaling = c.get("scaling")
    w = gguf.GGUFWriter(path, arch)
    w.add_name(name)
    w.add_context_length(context * 4 if scaling else context)
    w.add_embedding_length(hidden)
    w.add_block_count(layers)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(1e-5 if arch == "llama" else 1e-6)
    w.add_rope_freq_base(base)
    if d != hidden // heads:
        w.add_key_length(d)
        w.add_value_length(d)
    if rotated != d:
        w.add_rope_dimension_count(rotated)
    if scaling and not c.get("freqs"):
        w.add_string(f"{arch}.rope.scaling.type", scaling["rope_type"])
        w.add_float32(f"{arch}.rope.scaling.factor", scaling["factor"])
        w.add_uint32(f"{arch}.rope.scaling.original_context_length", context)
        if "low_freq_factor" in scaling:
            w.add_float32(f"{arch}.rope.scaling.low_freq_factor", scaling["low_freq_factor"])
            w.add_float32(f"{arch}.rope.scaling.high_freq_factor", scaling["high_freq_factor"])
        if "attn_factor" in c:
            w.add_float32(f"{arch}.rope.scaling.attn_factor", c["attn_factor"])

    def matrix(name, rows, columns, gain=1.0):
        a = r.standard_normal((rows, columns)) * gain / np.sqrt(columns)
        if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
            a = permute(a, heads if ".attn_q." in name else kv, rotated)
        w.add_tensor(name, a.astype(np.float32 if c.get("f32") else np.float16))

    def vector(name, n, centre, spread):
        a = centre + spread * r.standard_normal(n)
        if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
            a = permute(a, heads if ".attn_q." in name else kv, rotated)
        w.add_tensor(name, a.astype(np.float32))

    matrix("token_embd.weight", vocab, hidden, 3)
    vector("output_norm.weight", hidden, 1, 0.2)
    if not c.get("tied"):
        matrix("output.weight", vocab, hidden, 2)
    if c.get("freqs"):  # as llama.cpp's converter computes the divisors
        f = base ** -(np.arange(0, rotated, 2) / rotated)
        wavelength, old, low, high = 2 * np.pi / f, scaling["original_max_position_embeddings"], scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = (old / wavelength - low) / (high - low)
        divisor = np.where(wavelength < old / high, 1, np.where(wavelength > old / low, scaling["factor"], 1 / ((1 - smooth) / scaling["factor"] + smooth)))
        w.add_tensor("rope_freqs.weight", divisor.astype(np.float32))
    for i in range(layers):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", hidden, 1, 0.2)
        vector(b + "ffn_norm.weight", hidden, 1, 0.2)
        for n, rows in (("q", heads * d), ("k", kv * d), ("v", kv * d)):
            matrix(b + f"attn_{n}.weight", rows, hidden, 1.5)
            if c.get("bias"):
                vector(b + f"attn_{n}.bias", rows, 0, 0.5)
        matrix(b + "attn_output.weight", hidden, heads * d)
        if c.get("output_bias"):
            vector(b + "attn_output.bias", hidden, 0, 0.5)
        if arch == "qwen3":
            vector(b + "attn_q_norm.weight", d, 1, 0.3)
            vector(b + "attn_k_norm.weight", d, 1, 0.3)
        matrix(b + "ffn_gate.weight", ffn, hidden)
        matrix(b + "ffn_up.weight", ffn, hidden)
        matrix(b + "ffn_down.weight", hidden, ffn)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return r.randint(0, vocab, 96).tolist(), [0, 1, 5, 31, 32, 63, 64, 80, 95]


def write_golden(path, ids, positions, logits, keep=None):
    r = np.random.RandomState(7)
    out = b"PLG1" + struct.pack(f"<i{len(ids)}i", len(ids), *ids) + struct.pack("<i", len(positions))
    for p in positions:
        if keep:
            order = np.argsort(-logits[p])
            chosen = np.sort(np.concatenate((order[:keep], r.choice(order[keep:], keep, replace=False))))
        else:
            chosen = np.arange(logits.shape[1])
        out += struct.pack("<ii", p, len(chosen)) + chosen.astype("<i4").tobytes() + logits[p][chosen].astype("<f4").tobytes()
    open(path, "wb").write(out)


def tokenize(path, text):
    """Ids from llama.cpp (PEER_PYTHON: a Python with llama-cpp-python): which ids does not matter here, only that they are text."""
    code = ("import sys, llama_cpp; m = llama_cpp.Llama(sys.argv[1], vocab_only=True, verbose=False);"
            "print(*m.tokenize(sys.stdin.buffer.read(), add_bos=False, special=True))")
    peer = os.environ.get("PEER_PYTHON", sys.executable)
    out = subprocess.run([peer, "-c", code, path], input=text.encode(), capture_output=True, check=True).stdout
    return [int(x) for x in out.split()]


TINY = ("<｜begin▁of▁sentence｜><｜User｜>A shop sells 7 apples for 21 coins. How many coins do 12 apples cost?<｜Assistant｜><think>\n"
        "One apple costs 21 / 7 = 3 coins. 12 apples cost 12 × 3 = 36 coins.\n</think>\n\nThe answer is \\boxed{36}.")
REAL = {"smollm2": (f"{CACHE}/smollm2.gguf", None), "qwen-0.5b": (f"{CACHE}/qwen-0.5b.gguf", None),
        "ponder-tiny": ("models/ponder-tiny-q4_k_m.gguf", TINY)}


def write_fuzz_seeds():
    """Models of a few hundred bytes of weights, for tests/fuzz/model_fuzz.cpp."""
    os.makedirs(SEEDS, exist_ok=True)
    for name in ("qwen2-yarn", "llama-biases", "llama-llama3-tensor", "qwen3-wide-heads"):
        small = dict(CASES[name], hidden=8, heads=2, kv=1, vocab=8, ffn=8, layers=1)
        if "head_dim" in small:
            small["head_dim"] = 6
        write_model(f"{SEEDS}/{name}", name, small)


def main():
    os.makedirs(OUT, exist_ok=True)
    only = sys.argv[1:]
    if not only or "fuzz-seeds" in only:
        write_fuzz_seeds()
    for name, case in CASES.items():
        if only and name not in only:
            continue
        path = f"{OUT}/{name}.gguf"
        ids, positions = write_model(path, name, case)
        logits = judge.logits(judge.load(path, case.get("scaling")), ids)
        write_golden(f"{OUT}/{name}.logits", ids, positions, logits)
        print(name, os.path.getsize(path), "bytes, logits", logits.std(), flush=True)
    for name, (path, text) in REAL.items():
        if only and name not in only:
            continue
        text = text or open("tests/data/technical.txt", encoding="utf-8").read()
        ids = tokenize(path, text)[:256]
        logits = judge.logits(judge.load(path), ids)
        n = len(ids)
        write_golden(f"{OUT}/{name}.logits", ids, sorted({0, 1, 7, 31, 63, 64, n // 2, n * 3 // 4, n - 1} & set(range(n))), logits, keep=256)
        print(name, n, "tokens, logits", logits.std(), flush=True)


main()
