#!/usr/bin/env python3
"""What drafted tokens bring: the requests of tests/drafts/prompts.py with and without drafts, in turns. For a quiet machine.

    bench/drafts.py [--ponder build/ponder] [--tokens 160] [--threads N] [--precision P] [--temperature 0] [--only FAMILY,...]
                    [--noise N] [--tasks N] [--repeat N] [--out bench/results/drafts] [--floors] MODEL.gguf

Each request is asked twice, one after the other on the same server: with `draft` off and on (which first: in turns), so that both see
the same machine. With drafts it is asked once only, because its own answer would draft the second; --repeat starts the server anew
for each round, so that nothing is remembered, and takes the median of each request's times. Decode times alone are compared
(`eval_duration`); the texts must be the same. "noise": N requests of random words answered at temperature 3, where nothing can be
foreseen. Beside each family the median and the ends of single requests stand, of each the median of its rounds: they are short, and the
machine has its moods. (The least times of the rounds scatter more: one lucky run decides.) --tasks asks N tasks of the built-in model too. Writes NAME.json and NAME.md; --floors exits 1 below what the
house promises: of families, and from 5 rounds on of every single request.
"""
import argparse, collections, json, os, random, statistics, sys, urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, "..", d) for d in ("tests", "tests/drafts", "models/ponder-tiny")]
import prompts, tasks
from program import Program

NAME = "bench-drafts"
FLOORS = {"quote": 1.3, "edit": 1.3, "maths": 1.1, "code": 1.1}
WORST = 0.97


def post(url, body):
    request = urllib.request.Request(url + "/api/generate", json.dumps({"stream": False, **body}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as reply:
        return json.load(reply)


def noise(n):
    rng = random.Random(5)
    words = " ".join(prompts.TEXT_STORY.split() + prompts.TEXT_LAW.split()).split()
    return [("noise", " ".join(rng.choice(words) for _ in range(40))) for _ in range(n)]


def measure(url, model, items, args, turn):
    found = []
    for i, (family, prompt) in enumerate(items):
        options = {"temperature": args.temperature, "seed": i, "num_predict": args.tokens, "num_ctx": 2048}
        if family == "noise":
            options.update(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0)
        body = {"model": model, "prompt": prompt, "raw": family == "noise", "options": options}
        replies = {}
        for draft in (("off", "auto"), ("auto", "off"))[(i + turn) % 2]:
            replies[draft] = post(url, {**body, "draft": draft})
        off, on = replies["off"], replies["auto"]
        same = (off["response"], off.get("thinking")) == (on["response"], on.get("thinking"))
        if off["eval_count"] > 8:
            found.append({"family": family, "request": i, "tokens": off["eval_count"], "same": same, "off": off["eval_duration"] / 1e9,
                          "on": on["eval_duration"] / 1e9, "drafted": on["drafted_tokens"], "accepted": on["accepted_tokens"]})
    return found


def medians(rounds):
    """One entry for each request: of `off` and `on` the medians, every round's quotient in `each`."""
    out = []
    for same_request in zip(*rounds):
        out.append({**same_request[0], "same": all(f["same"] for f in same_request),
                    **{key: statistics.median(f[key] for f in same_request) for key in ("off", "on")},
                    **{key: max(f[key] for f in same_request) for key in ("drafted", "accepted")},
                    "each": [f["off"] / f["on"] for f in same_request]})
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ponder", default="build/ponder")
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="standard")
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--only")
    parser.add_argument("--noise", type=int, default=4)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--out")
    parser.add_argument("--floors", action="store_true")
    args = parser.parse_args()
    program = Program(args.ponder)
    made = program.run("create", NAME, "--from", os.path.abspath(args.model))
    assert made.returncode == 0, made.stderr
    items = prompts.all_prompts() + [("random", p) for p in prompts.RANDOM] + noise(args.noise)
    if args.only:
        items = [i for i in items if i[0] in args.only.split(",")]
    rng = random.Random(99)
    tiny = [("ponder-tiny", tasks.sample(rng)[1]) for _ in range(args.tasks)]
    rounds = []
    for turn in range(args.repeat):
        with program.serve("--threads", str(args.threads), "--precision", args.precision) as url:
            for model in [NAME] * bool(items) + ["ponder-tiny"] * bool(tiny):  # load, and the first steps
                post(url, {"model": model, "prompt": "Hello", "draft": "off", "options": {"num_predict": 24}})
            rounds.append(measure(url, NAME, items, args, turn) + measure(url, "ponder-tiny", tiny, args, turn))
    found = medians(rounds)
    families = collections.defaultdict(list)
    for f in found:
        families[f["family"]].append(f)
    title = f"{os.path.basename(args.model)}, {args.threads} threads, {args.precision}, temperature {args.temperature:g}, {args.tokens} tokens at most"
    text = f"### {title}\n\n| family | requests | tokens/s without | with drafts | times | single requests: median (worst - best) | drafted | right |\n|---|---|---|---|---|---|---|---|\n"
    summary, good = {}, all(f["same"] for f in found)
    for family, fs in families.items():
        tokens, off, on = (sum(f[k] for f in fs) for k in ("tokens", "off", "on"))
        each = [statistics.median(f["each"]) for f in fs]
        drafted, accepted = sum(f["drafted"] for f in fs), sum(f["accepted"] for f in fs)
        summary[family] = off / on
        good = good and off / on >= FLOORS.get(family, WORST) and (args.repeat < 5 or min(each) >= WORST)
        text += (f"| {family} | {len(fs)} | {tokens / off:.1f} | {tokens / on:.1f} | **{off / on:.2f}** | {statistics.median(each):.2f} ({min(each):.2f} - {max(each):.2f}) | "
                 f"{drafted} | {accepted} ({100 * accepted / max(1, drafted):.0f} %) |\n")
    if args.repeat > 1:
        text += f"\nTimes are medians of {args.repeat} rounds. The slowest requests, and their rounds:\n"
        for f in sorted(found, key=lambda f: statistics.median(f["each"]))[:6]:
            text += (f"- {f['family']} {f['request']}, {f['tokens']} tokens, drafted {f['drafted']}, right {f['accepted']}: **{statistics.median(f['each']):.3f}** "
                     f"({', '.join(f'{x:.2f}' for x in f['each'])})\n")
    text += f"\nTexts that differ: {sum(not f['same'] for f in found)} of {len(found)}.\n"
    print(text)
    if args.out:
        with open(args.out + ".json", "w") as f:
            json.dump({"title": title, "times": summary, "requests": found}, f, indent=1)
        with open(args.out + ".md", "w") as f:
            f.write(text)
    return 1 if args.floors and not good else 0


if __name__ == "__main__":
    sys.exit(main())
