#!/usr/bin/env python3
"""Voting with the built-in model on tasks it never saw: accuracy and tokens of 1, 3, 5 and 8 chains.

    bench/vote.py BINARY [--tasks 320] [--temperatures 1.0 1.3] [--out bench/results/vote] [--check 32]

Each task of the eight harder families of models/ponder-tiny/tasks.py is asked once with a vote of 8 that hears every chain
(stop "never", chains kept). Chain i draws from stream i whatever the number of chains, so the votes of 1, 3 and 5 are the
first chains of the same run. When a vote would have settled follows from the lengths of its chains (they run in step), and
is computed here by the rule of src/reason/tally.h; --check asks so many tasks again with the stop switched on and fails if
the program decides otherwise. Right is what tests/tiny/tiny_test.py calls right. Writes OUT.json and OUT.md, and with
--picture FILE.svg a picture (docs/img/vote-curve.svg); intervals are Wilson's at 95 %. With --floor, fails when the vote of 8 at the last temperature has a smaller accuracy.
"""
import argparse
import collections
import concurrent.futures
import json
import math
import os
import platform
import random
import sys
import time
import urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here] + [os.path.join(here, "..", *p) for p in (("tests",), ("tests", "tiny"), ("models", "ponder-tiny"))]
import tasks
from line_chart import chart
from program import Program
from tiny_test import boxed, right

FAMILIES = "mul div word countdown knights gcd sort clock".split()
VOTES, CHAINS, RISK, SETTLE_MIN, SHORT = (1, 3, 5, 8), 8, 0.10, 3, 3


def ask(url, question, temperature, seed, vote):
    body = {"model": "ponder-tiny", "messages": [{"role": "user", "content": question}], "stream": False, "vote": vote,
            "options": {"temperature": temperature, "top_p": 1, "top_k": 0, "min_p": 0, "seed": seed, "num_predict": 1000}}
    request = urllib.request.Request(url + "/api/chat", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=900) as reply:
        return json.load(reply)


def log_beta(a, b):
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def overturn_risk(first, second, left):
    """See src/reason/tally.h."""
    if first <= second:
        return 1.0
    risk = 0.0
    for x in range(left + 1):
        leader, other = first + x, second + left - x
        if leader <= other:
            p = math.comb(left, x) * math.exp(log_beta(first + 1 + x, second + 1 + left - x) - log_beta(first + 1, second + 1))
            risk += p * (0.5 if leader == other else 1)
    return risk


class Task:
    """One question with its chains, in the order in which they ended."""

    def __init__(self, family, question, wanted, reply):
        self.family, self.question, self.wanted = family, question, wanted
        vote = reply["vote"]
        self.chains = vote["chains"]
        group = {c: i for i, g in enumerate(vote["counts"]) for c in g["chains"]}
        self.group = [group.get(i) for i in range(CHAINS)]  # None: no answer
        self.boxed = [boxed(c.get("content", "")) for c in self.chains]
        self.right = [right(family, question, wanted, b) for b in self.boxed]

    def play(self, n, stop):
        """The first n chains, looked at as they end until stop(counts, answers, left): (winner, tokens, ticks)."""
        order = sorted(range(n), key=lambda i: (self.chains[i]["tokens"], i))
        members, end = collections.OrderedDict(), 0
        for k, i in enumerate(order):
            end = self.chains[i]["tokens"]
            if self.group[i] is not None:
                members.setdefault(self.group[i], []).append(i)
            counts = sorted((len(m) for m in members.values()), reverse=True) + [0, 0]
            if stop(counts, sum(counts), n - k - 1):
                break
        tokens = sum(min(end, self.chains[i]["tokens"]) for i in range(n))
        if not members:
            return 0, tokens, end
        best = min(members.values(), key=lambda m: (-len(m), min(m)))
        return best[0], tokens, end

    def plain_majority(self, n):
        """Of the boxed texts as they are, as the table of the model's card counts them."""
        counts = collections.Counter(b for b in self.boxed[:n] if b is not None)
        return right(self.family, self.question, self.wanted, counts.most_common(1)[0][0] if counts else None)


def never(counts, answers, left):
    return False


def settled(counts, answers, left):
    risk = overturn_risk(counts[0], counts[1], left)
    return risk <= 0 or (answers >= SETTLE_MIN and risk <= RISK)


def short(counts, answers, left):
    rest = min(SHORT - answers, left)
    return rest <= 0 or counts[0] > counts[1] + rest


def wilson(good, n, z=1.96):
    p, d = good / n, 1 + z * z / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / d, (centre + half) / d


def picture(rows, temperatures):
    """Right answers against tokens: votes of 1, 3, 5, 8, and with the settled stop."""
    lines = []
    for temperature, colour in zip(temperatures, ("#1f6feb", "#d1242f", "#2da44e", "#8250df")):
        of = {r["vote"]: r for r in rows if r["temperature"] == temperature}
        for dashed, names in ((False, [str(k) for k in VOTES]), (True, ["1"] + [f"{k}, settled" for k in VOTES[1:]])):
            line = [of[name] for name in names]
            lines.append({"name": f"{temperature}, settled" if dashed else f"temperature {temperature}", "colour": colour, "dashed": dashed,
                          "points": [(r["tokens"], r["accuracy"]) for r in line]})
            if not dashed:
                lines[-1].update(low=[r["low"] for r in line], high=[r["high"] for r in line], dots=[str(k) for k in VOTES])
    most = max(p[0] for line in lines for p in line["points"])
    ticks = [(t, f"{t:,}") for t in range(0, int(most) + 200, 200)]
    return chart(lines, ticks, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "tokens of all chains, a question", "right answers")


def check(url, task, temperature, seed):
    """The program with the stop on decides as play() does."""
    reply = ask(url, task.question, temperature, seed, {"n": CHAINS})
    winner, _, _ = task.play(CHAINS, settled)
    content = task.chains[winner].get("content", "")
    if reply["message"]["content"] != content or reply["vote"]["winner"] != winner:
        return f"{task.question!r}: winner {reply['vote']['winner']}, computed {winner}"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary")
    p.add_argument("--tasks", type=int, default=320)
    p.add_argument("--seed", type=int, default=777777)
    p.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 1.3])
    p.add_argument("--check", type=int, default=32)
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of the model; the figures do not depend on it")
    p.add_argument("--out")
    p.add_argument("--picture")
    p.add_argument("--floor", type=float)
    args = p.parse_args()
    rng = random.Random(args.seed)
    each = max(1, args.tasks // len(FAMILIES))
    samples = [(f, *tasks.FAMILIES[f][0](rng)) for f in FAMILIES for _ in range(each)]
    rows, problems, families, savings = [], [], {}, []
    with Program(args.binary).serve(env={"PONDER_THREADS": str(args.threads)}) as url, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for temperature in args.temperatures:
            start = time.time()
            vote = {"n": CHAINS, "stop": "never", "chains": True}
            seeds = range(1, len(samples) + 1)
            replies = list(pool.map(lambda s, seed: ask(url, s[1], temperature, seed, vote), samples, seeds))
            done = [Task(f, q, wanted, reply) for (f, q, _, _, wanted), reply in zip(samples, replies)]
            for task, reply in zip(done, replies):
                if task.play(CHAINS, never)[0] != reply["vote"]["winner"]:
                    problems.append(f"{task.question!r}: winner {reply['vote']['winner']}, computed {task.play(CHAINS, never)[0]}")
            step = max(1, len(done) // max(args.check, 1))
            again = list(zip(done, seeds))[::step][:args.check]
            problems += [x for x in pool.map(lambda t: check(url, t[0], temperature, t[1]), again) if x]
            n = len(done)
            plans = [(str(k), k, never) for k in VOTES] + [(f"{k}, settled", k, settled) for k in VOTES[1:]]
            plans.append((f"short-{SHORT}@{CHAINS}", CHAINS, short))
            for name, k, stop in plans:
                played = [t.play(k, stop) for t in done]
                full = [t.play(k, never) for t in done]
                good = sum(t.right[w] for t, (w, _, _) in zip(done, played))
                low, high = wilson(good, n)
                rows.append({"temperature": temperature, "vote": name, "accuracy": good / n, "low": low, "high": high,
                             "tokens": sum(x[1] for x in played) / n, "ticks": sum(x[2] for x in played) / n,
                             "plain_majority": sum(t.plain_majority(k) for t in done) / n if stop is never else None,
                             "other_winner": sum(t.group[a[0]] != t.group[b[0]] for t, a, b in zip(done, played, full)) / n})
            families[temperature] = {f: [sum(t.right[t.play(k, never)[0]] for t in done if t.family == f) / each for k in VOTES]
                                     for f in FAMILIES}
            rows.append({"temperature": temperature, "vote": "any of 8", "accuracy": sum(any(t.right) for t in done) / n})
            print(f"temperature {temperature}: {n} tasks in {time.time() - start:.0f} s", flush=True)
    head = ("| temperature | chains | accuracy (95 %) | plain majority | tokens a task | time (tokens of the longest chain heard) | other winner than the full vote |\n"
            "|---|---|---|---|---|---|---|")
    lines = []
    for r in rows:
        if "low" not in r:
            lines.append(f"| {r['temperature']} | {r['vote']} | {r['accuracy']:.3f} | | | | |")
            continue
        plain = "" if r["plain_majority"] is None else f"{r['plain_majority']:.3f}"
        other = "" if r["plain_majority"] is not None else f"{r['other_winner']:.1%}"
        lines.append(f"| {r['temperature']} | {r['vote']} | **{r['accuracy']:.3f}** ({r['low']:.3f}-{r['high']:.3f}) | {plain} | "
                     f"{r['tokens']:.0f} | {r['ticks']:.0f} | {other} |")
    table = head + "\n" + "\n".join(lines)
    print(table)
    for problem in problems:
        print("differs from the program: " + problem)
    if args.out:
        info = {"date": time.strftime("%Y-%m-%d"), "tasks": len(samples), "seed": args.seed, "machine": platform.machine()}
        with open(args.out + ".json", "w") as f:
            json.dump({**info, "rows": rows, "families": families}, f, indent=1)
        per_family = ""
        for temperature, by in families.items():
            per_family += (f"\n\nBy family at temperature {temperature} (votes of {', '.join(map(str, VOTES))}):\n\n| family | " +
                           " | ".join(map(str, VOTES)) + " |\n|---|" + "---|" * len(VOTES) + "\n" +
                           "\n".join(f"| {f} | " + " | ".join(f"{x:.2f}" for x in v) + " |" for f, v in by.items()))
        with open(args.out + ".md", "w") as f:
            f.write(f"# Voting with ponder-tiny\n\n{info['date']}. {len(samples)} tasks of the eight harder families ({', '.join(FAMILIES)}; "
                    f"`random.Random({args.seed})`, {each} a family), the built-in Q4_K_M model, top_p 1, top_k 0, no budget, at most 1,000 tokens a chain.\n"
                    f"Made by `bench/vote.py build/ponder --seed {args.seed} --out bench/results/vote --picture docs/img/vote-curve.svg`. \"Plain majority\" counts the boxed texts as they are; the "
                    f"vote counts equal values (`src/reason/answer.h`), and so joins different right ways of a countdown.\n\n{table}{per_family}\n")
    if args.picture:
        with open(args.picture, "w") as f:
            f.write(picture(rows, args.temperatures))
    if problems or (args.floor and next(r for r in reversed(rows) if r["vote"] == str(CHAINS))["accuracy"] < args.floor):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
