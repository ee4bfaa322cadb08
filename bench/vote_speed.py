#!/usr/bin/env python3
"""How much longer eight chains take than one, decoded as one batch: the cost of a vote of 8.

    bench/vote_speed.py BINARY MODEL.gguf [--tokens 512] [--chains 8] [--rounds 3] [--out bench/results/vote-speed]

One chain and eight are timed in turns (`ponder bench`, each round its own process, which also measures the machine's plain
read before and after both), in precisions fast and standard. Wanted: at most 2.2 times the time of one chain in fast and 2.8 in standard
while the plain read gives at most 36 GB/s. Run it on a quiet machine. Exits 1 when a ratio is above its bound and the
machine was within the condition.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

BOUND, SLOW_READ = {"fast": 2.2, "standard": 2.8}, 36.0


def measure(args, precision):
    """(seconds of one chain, seconds of all, plain read in GB/s) of one process."""
    out = subprocess.run([args.binary, "bench", args.model, "-p", "0", "-n", str(args.tokens), "-b", f"1,{args.chains}", "-r", "1",
                          "-t", str(args.threads), "--precision", precision, "--json"], check=True, capture_output=True, text=True).stdout
    found = json.loads(out)
    rate = {r["batch"]: r["tokens_per_second"] for r in found["results"]}
    read = statistics.mean(r["read_gb_per_second"] for r in found["results"])  # before and after each of both
    return args.tokens / rate[1], args.tokens * args.chains / rate[args.chains], read, found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary")
    p.add_argument("model")
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--chains", type=int, default=8)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--out")
    args = p.parse_args()
    lines, missed = [], False
    for precision in BOUND:
        rounds = [measure(args, precision) for _ in range(args.rounds)]
        one, all_, read = (statistics.median(r[i] for r in rounds) for i in range(3))
        ratios = sorted(r[1] / r[0] for r in rounds)
        ratio = statistics.median(ratios)
        missed |= ratio > BOUND[precision] and read <= SLOW_READ
        lines.append(f"| {precision} | {one:.1f} s | {all_:.1f} s | **{ratio:.2f}** ({ratios[0]:.2f}-{ratios[-1]:.2f}) | {BOUND[precision]} | "
                     f"{args.tokens / one:.1f} | {args.tokens * args.chains / all_:.1f} | {read:.1f} GB/s |")
    about = rounds[-1][3]
    head = (f"| precision | one chain | {args.chains} chains | ratio (range) | bound | tokens/s, one | tokens/s, {args.chains} | plain read |\n"
            "|---|---|---|---|---|---|---|---|")
    table = head + "\n" + "\n".join(lines)
    print(table)
    if args.out:
        with open(args.out + ".md", "w") as f:
            f.write(f"# The time of a vote of {args.chains}\n\n{time.strftime('%Y-%m-%d')}, {os.path.basename(args.model)}, {about['device']}, {about['isa']}, "
                    f"{args.threads} threads, KV {about['kv_format']}, load average {os.getloadavg()[0]:.1f}; {args.tokens} tokens a chain, "
                    f"{args.rounds} rounds, medians. `bench/vote_speed.py build/ponder MODEL --out bench/results/vote-speed`\n\n{table}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
