"""The same greedy text from two backends: a real model goes on from 50 passages of this repository's own pages.

same_texts.py BINARY MODEL.gguf [--backend cuda] [--beside cpu] [--prompts 50] [--tokens 48] [--floor 0.9]

Devices round differently, so a text may take another turn where two tokens were nearly equal; each turn is printed with
the log-probabilities that the second backend gives both tokens. Exit status 1 below the floor.
"""
import argparse, concurrent.futures, glob, json, os, sys, urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
from program import Program


def passages(n):
    texts = []
    for path in sorted(glob.glob(os.path.join(here, "..", "..", "docs", "**", "*.md"), recursive=True)):
        paragraphs = [" ".join(p.split()) for p in open(path, encoding="utf-8").read().split("\n\n")]
        texts += [p[:200].rsplit(" ", 1)[0] for p in paragraphs if len(p) > 120 and p[0].isalpha()]
    if len(texts) < n:
        sys.exit(f"only {len(texts)} passages are long enough")
    return texts[::len(texts) // n][:n]


def generate(url, prompt, tokens):
    body = {"model": "judged", "prompt": prompt, "raw": True, "stream": False, "logprobs": True, "top_logprobs": 2,
            "options": {"temperature": 0, "num_predict": tokens}}
    request = urllib.request.Request(url + "/api/generate", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)


def texts_of(binary, model, backend, prompts, tokens):
    program = Program(binary)
    made = program.run("create", "judged", "--from", os.path.abspath(model))
    if made.returncode != 0:
        sys.exit(made.stderr)
    with program.serve("--backend", backend) as url, concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda p: generate(url, p, tokens), prompts))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary"); p.add_argument("model")
    p.add_argument("--backend", default="cuda"); p.add_argument("--beside", default="cpu")
    p.add_argument("--prompts", type=int, default=50); p.add_argument("--tokens", type=int, default=48)
    p.add_argument("--floor", type=float, default=0.9)
    a = p.parse_args()
    prompts = passages(a.prompts)
    ours, theirs = (texts_of(a.binary, a.model, b, prompts, a.tokens) for b in (a.backend, a.beside))
    same = 0
    for prompt, x, y in zip(prompts, ours, theirs):
        if x["response"] == y["response"]:
            same += 1
            continue
        steps = list(zip(x.get("logprobs", []), y.get("logprobs", [])))
        turn = next(((i, s, t) for i, (s, t) in enumerate(steps) if s["token"] != t["token"]), None)
        if turn:
            top = {t["token"]: round(t["logprob"], 4) for t in turn[2].get("top_logprobs", [])}
            print(f"...{prompt[-30:]!r}: token {turn[0]} is {turn[1]['token']!r}, with {a.beside} {turn[2]['token']!r} (its two best: {top})")
    print(f"{same} of {len(prompts)} texts of {a.tokens} tokens are the same with {a.backend} and {a.beside} ({same / len(prompts):.1%})")
    return 0 if same >= a.floor * len(prompts) else 1


if __name__ == "__main__":
    sys.exit(main())
