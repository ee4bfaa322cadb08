"""llama.cpp's accuracy on the real test models: its logits against PyTorch's float32 ones (judge.py) on the same ids, in
windows of 256. Makes tests/golden/accuracy/MODEL.json: the ids and the figures that our own are held against.

Usage, from the repository's root, with the Python of judge.py: peer_kl.py [MODEL...]
PEER_PYTHON names a Python with llama-cpp-python 0.3.36, built natively (CMAKE_ARGS=-DGGML_NATIVE=ON)."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import judge

WINDOW, TOKENS, LENGTHS = 256, 2048, (512, 1024, 2048)
TEXT = "tests/data/technical.txt"
CACHE = os.environ.get("PONDER_MODEL_CACHE", os.path.expanduser("~/.cache/ponder-tests"))
PEER = os.environ.get("PEER_PYTHON", sys.executable)

# The peer's side, in its own Python: prints its version and the ids, writes the logits of window i to i.npy.
PEER_CODE = r"""
import json, os, sys, numpy as np, llama_cpp
path, text, folder, window, tokens = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
m = llama_cpp.Llama(path, n_ctx=window, n_batch=window, logits_all=True, n_threads=os.cpu_count(), n_threads_batch=os.cpu_count(), verbose=False)
ids = m.tokenize(open(text, 'rb').read(), add_bos=False, special=False)[:tokens]
for i in range(0, len(ids), window):
    m.reset()
    m.eval(ids[i:i + window])
    np.save(f'{folder}/{i // window}.npy', m.scores[:len(ids[i:i + window])])
json.dump(dict(version=llama_cpp.__version__, ids=ids), open(f'{folder}/peer.json', 'w'))
"""


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def figures(kl, same, difference, reference):
    """What accuracy_test.cpp computes for us. Trimmed: without the worst 1 % of tokens (rounded down to keep)."""
    kept = np.sort(kl)[: int(len(kl) * 0.99)]
    return dict(kl_trimmed=float(kept.mean()), kl_mean=float(kl.mean()), kl_p99=float(np.quantile(kl, 0.99)),
                relative_l2=float(np.sqrt(difference.sum() / reference.sum())), top1=float(same.mean()))


def main():
    for name in sys.argv[1:] or ["smollm2", "qwen-0.5b"]:
        path = f"{CACHE}/{name}.gguf"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([PEER, "-c", PEER_CODE, path, TEXT, folder, str(WINDOW), str(TOKENS)], check=True)
            peer = json.load(open(f"{folder}/peer.json"))
            ids = peer["ids"]
            assert len(ids) == TOKENS, f"the text has only {len(ids)} tokens"
            model = judge.load(path)
            kl, same, difference, reference = [], [], [], []
            for i in range(0, TOKENS, WINDOW):
                ours, theirs = judge.logits(model, ids[i:i + WINDOW]), np.load(f"{folder}/{i // WINDOW}.npy")
                p, q = log_softmax(ours), log_softmax(theirs)
                kl.append((np.exp(p) * (p - q)).sum(1))
                same.append(ours.argmax(1) == theirs.argmax(1))
                a, b = (x.astype(np.float64) - x.astype(np.float64).mean(1, keepdims=True) for x in (theirs, ours))
                difference.append(((a - b) ** 2).sum(1))
                reference.append((b ** 2).sum(1))
                print(name, i, f"KL {kl[-1].mean():.2e}", flush=True)
        columns = [np.concatenate(x) for x in (kl, same, difference, reference)]
        result = dict(model=name, text=TEXT, window=WINDOW, peer=f"llama-cpp-python {peer['version']}, F16 KV",
                      figures={str(n): figures(*(c[:n] for c in columns)) for n in LENGTHS}, ids=ids)
        os.makedirs("tests/golden/accuracy", exist_ok=True)
        with open(f"tests/golden/accuracy/{name}.json", "w") as f:
            json.dump(result, f, indent=None, separators=(",", ":"))
            f.write("\n")
        print(name, json.dumps(result["figures"], indent=1))


main()
