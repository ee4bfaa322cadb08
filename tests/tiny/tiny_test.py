"""200 tasks that the built-in model never saw, asked through the API: at least 97 % of its answers are right.

tiny_test.py BINARY [--tasks N] [--seed S] [--backend NAME] [--beside NAME]

The tasks come from models/ponder-tiny/tasks.py, which made the training data too: training drew from seeds 1000 to 1012
and their streams, this test draws from another. Every family has a procedure that knows the right answer; an answer is
what stands in the last \\boxed{} of the reply, the thought split off. Questions that no family covers are right when the
model boxes nothing and says that it cannot help.

With --beside the same tasks are asked of a second backend, whose texts must be the same for at least 90 %: two devices
round differently, so a text may take another turn where two tokens were nearly equal.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import random
import re
import sys
import time
import urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, ".."), os.path.join(here, "..", "..", "models", "ponder-tiny")]
import tasks
from program import Program

REQUIRED = 0.97
SAME_TEXTS = 0.90


def boxed(text):
    at = text.rfind("\\boxed{")
    end = text.find("}", at)
    return None if at < 0 or end < 0 else text[at + 7:end].strip()


def right(family, question, wanted, got):
    """As models/ponder-tiny/train.py judged it: exact, and for countdown any expression that uses the numbers once."""
    if wanted is None or got is None:
        return wanted is None and got is None
    if family != "countdown":
        return got == str(wanted)
    given, target = question.split("exactly")[0], question.split("exactly")[1]
    numbers, target = sorted(map(int, re.findall(r"\d+", given))), int(re.findall(r"\d+", target)[0])
    if not set(got) <= set("0123456789+-×() ") or sorted(map(int, re.findall(r"\d+", got))) != numbers:
        return False
    try:
        return eval(got.replace("×", "*")) == target
    except (SyntaxError, ZeroDivisionError):
        return False


def ask(url, question):
    body = {"model": "ponder-tiny", "messages": [{"role": "user", "content": question}], "stream": False,
            "options": {"temperature": 0, "num_predict": 1500}}
    request = urllib.request.Request(url + "/api/chat", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as reply:
        return json.load(reply)


def ask_all(binary, backend, samples):
    with Program(binary).serve("--backend", backend) as url, concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda s: ask(url, s[1]), samples))


def compare(samples, ours, theirs, name):
    """Prints where the texts part; the share that is the same."""
    def text(reply):
        return reply["message"].get("thinking", "") + "\n" + reply["message"]["content"]
    same = 0
    for (family, question, *_), a, b in zip(samples, map(text, ours), map(text, theirs)):
        if a == b:
            same += 1
            continue
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        print(f"differs from {name}: {family}: {question!r} after {a[max(0, at - 40):at]!r}: "
              f"{a[at:at + 20]!r}, there {b[at:at + 20]!r}")
    print(f"{same} of {len(samples)} texts are the same as with {name} ({same / len(samples):.1%})")
    return same / len(samples)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=777777)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--beside")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    samples = [tasks.sample(rng) for _ in range(args.tasks)]
    start = time.time()
    replies = ask_all(args.binary, args.backend, samples)
    table, wrong, broken = collections.defaultdict(lambda: [0, 0, 0]), [], []
    for (family, question, _, _, wanted), reply in zip(samples, replies):
        content, thinking = reply["message"]["content"], reply["message"].get("thinking", "")
        if not thinking or "think>" in thinking + content:
            broken.append((question, thinking, content))
        ok = right(family, question, wanted, boxed(content))
        row = table[family]
        row[0] += 1
        row[1] += ok
        row[2] += reply["thinking_tokens"]
        if not ok:
            wrong.append((family, question, wanted, content))
    print(f"{'family':<14}{'tasks':>6}{'right':>7}{'thought':>9}")
    for family, (n, good, thought) in sorted(table.items()):
        print(f"{family:<14}{n:>6}{good:>7}{thought / n:>9.0f}")
    share = 1 - len(wrong) / len(samples)
    print(f"{len(samples) - len(wrong)} of {len(samples)} right ({share:.1%}) in {time.time() - start:.1f} s")
    for family, question, wanted, content in wrong:
        print(f"wrong: {family}: {question!r} wanted {wanted!r}, got {content!r}")
    for question, thinking, content in broken:
        print(f"the thought is not split off: {question!r}: {thinking!r} | {content!r}")
    if args.beside:
        share_same = compare(samples, replies, ask_all(args.binary, args.beside, samples), args.beside)
        if share_same < SAME_TEXTS:
            return 1
    return 0 if share >= REQUIRED and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
