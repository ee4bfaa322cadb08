"""The same greedy text from several devices: a real chat model answers the 50 questions of prompts.txt through its template.

same_texts.py BINARY MODEL.gguf [--devices cuda,cpu,cpu:exact] [--tokens 64] [--floor 0.9] [--passages]

A device is a backend, or with its precision "cpu:exact"; every two are compared. --passages: the model goes on, without
its template, from 50 passages of this repository's pages instead, which it does not know and which never end.

Devices round differently, so a text may take another turn where two tokens are nearly equal. At each turn the float64
reference and both devices say how likely they find the two tokens after the text they share. It is called a near tie
when the reference's log-probabilities of the two differ by less than both devices' errors together, a device's error
being the largest by which it is off in the difference of any two of the reference's 20 best, the pair in question left
out, and at most MOST_ERROR.

Passes when every turn is a near tie and the first device gives the text of the last one for --floor of the prompts, or,
where even the second device does not, for as many as the second does: a model that is so often undecided cannot be asked
for more.
"""
import argparse, concurrent.futures, contextlib, glob, itertools, json, os, sys, urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
from program import Program

MOST_ERROR = 0.5  # a device that is farther off than this is wrong, not rounded


def questions():
    return [line.strip() for line in open(os.path.join(here, "prompts.txt"), encoding="utf-8") if line[0] != "#"]


def passages():
    texts = []
    for path in sorted(glob.glob(os.path.join(here, "..", "..", "docs", "**", "*.md"), recursive=True)):
        paragraphs = [" ".join(p.split()) for p in open(path, encoding="utf-8").read().split("\n\n")]
        texts += [p[:200].rsplit(" ", 1)[0] for p in paragraphs if len(p) > 120 and p[0].isalpha()]
    return texts[::len(texts) // 50][:50]


class Server:
    """A device that answers. `raw`: prompts are text to go on from, not questions."""
    def __init__(self, stack, binary, model, device, raw):
        backend, _, precision = device.partition(":")
        self.name, self.raw, program = device, raw, Program(binary)
        made = program.run("create", "judged", "--from", os.path.abspath(model))
        if made.returncode != 0:
            sys.exit(made.stderr)
        self.url = stack.enter_context(program.serve("--backend", backend, *(["--precision", precision] if precision else [])))

    def reply(self, prompt, so_far, tokens, logprobs=None, **options):
        """The greedy reply that begins with so_far, which is not repeated."""
        body = {"model": "judged", "stream": False, "options": {"temperature": 0, "num_predict": tokens, **options}}
        if logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        if self.raw:
            route, body["prompt"], body["raw"] = "generate", prompt + so_far, True
        else:
            route, body["messages"] = "chat", [{"role": "user", "content": prompt}]
            if so_far:
                body["messages"].append({"role": "assistant", "content": so_far})
        request = urllib.request.Request(f"{self.url}/api/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=1200) as answer:
            got = json.load(answer)
        got["text"] = got["response"] if self.raw else got["message"]["content"]
        return got


def distribution(server, prompt, so_far):
    """{token's bytes: log-probability} of the 20 best that follow, and how many tokens were before."""
    # The bias draws some ordinary token: the end of the reply would have no log-probabilities. They are those before it.
    got = server.reply(prompt, so_far, 1, 20, logit_bias={"1000": 1000})
    return {bytes(t["bytes"]): t["logprob"] for t in got["logprobs"][0]["top_logprobs"]}, got["prompt_eval_count"]


def explain(prompt, one, other, reference, tokens):
    """Prints the turn at which two devices' texts part; after how many tokens it comes, and whether it is a near tie."""
    replies = [s.reply(prompt, "", tokens, 0) for s in (one, other)]
    steps = [[bytes(t["bytes"]) for t in r["logprobs"]] for r in replies]
    at = next((i for i, (a, b) in enumerate(zip(*steps)) if a != b), min(map(len, steps)))
    so_far = b"".join(steps[0][:at]).decode(errors="replace")
    here, there, judge = (distribution(s, prompt, so_far) for s in (one, other, reference))
    if any(n != replies[0]["prompt_eval_count"] + at for _, n in (here, there, judge)):
        print(f"  {prompt[-40:]!r}: the shared text's tokens are not those that were generated, so the turn cannot be judged")
        return at, False
    picked = [max(d, key=d.get) for d, _ in (here, there)]
    pair, best = dict.fromkeys(picked), judge[0]
    others = [t for t in best if t not in pair]
    if len(pair) != 2 or any(t not in d for t in pair for d, _ in (here, there, judge)):
        print(f"  {prompt[-40:]!r}: after {so_far[-30:]!r} the devices take {picked}, which the others do not know: no near tie")
        return at, False
    offs = [[d[t] - best[t] for t in others if t in d] for d, _ in (here, there)]
    errors = [max(o) - min(o) for o in offs]
    a, b = pair
    gap = best[a] - best[b]
    tie = abs(gap) < sum(errors) and max(errors) < MOST_ERROR
    print(f"  {prompt[-40:]!r}: token {at}, after {so_far[-30:]!r}: {one.name} {a!r}, {other.name} {b!r}")
    print("    log-probabilities of the two: " + "; ".join(f"{name} {d[a]:.4f} {d[b]:.4f}" for name, d in
          ((one.name, here[0]), (other.name, there[0]), ("reference", best))))
    print(f"    the reference's differ by {abs(gap):.4f}, the errors are {errors[0]:.4f} and {errors[1]:.4f}: "
          f"{'a near tie' if tie else 'NO near tie'}, {one.name if gap > 0 else other.name} takes the reference's")
    return at, tie


def compare(prompts, one, other, reference, tokens):
    """Prints what differs; how many texts are the same, and how many turns are no near ties."""
    print(f"{one.name} and {other.name}:")
    differ = [q for q, x, y in zip(prompts, one.replies, other.replies) if x["text"] != y["text"]]
    turns = [explain(q, one, other, reference, tokens) for q in differ]
    same, ties = len(prompts) - len(differ), sum(tie for _, tie in turns)
    early = ", ".join(f"{len(prompts) - sum(at < n for at, _ in turns)} in their first {n} tokens" for n in (8, 16, 32) if n < tokens)
    print(f"  {same} of {len(prompts)} texts are the same ({early}); {ties} turns are near ties, {len(turns) - ties} are not\n")
    return same, len(turns) - ties


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary"); p.add_argument("model"); p.add_argument("--devices", default="cuda,cpu,cpu:exact")
    p.add_argument("--tokens", type=int, default=64); p.add_argument("--floor", type=float, default=0.9)
    p.add_argument("--passages", action="store_true")
    a = p.parse_args()
    prompts = passages() if a.passages else questions()
    with contextlib.ExitStack() as stack:
        *devices, reference = (Server(stack, a.binary, a.model, d, a.passages) for d in a.devices.split(",") + ["reference"])
        for d in devices:
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                d.replies = list(pool.map(lambda q: d.reply(q, "", a.tokens), prompts))
            print(f"{d.name}: at most {a.tokens} tokens, {sum(r['eval_count'] for r in d.replies) / len(prompts):.1f} on average, "
                  f"{sum(r['done_reason'] == 'stop' for r in d.replies)} texts came to their end")
        found = {(x, y): compare(prompts, x, y, reference, a.tokens) for x, y in itertools.combinations(devices, 2)}
    floor = a.floor * len(prompts)
    if len(devices) > 2:
        floor = min(floor, found[devices[1], devices[-1]][0])
    return 0 if found[devices[0], devices[-1]][0] >= floor and not any(bad for _, bad in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
