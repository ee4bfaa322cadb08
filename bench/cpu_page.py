#!/usr/bin/env python3
"""bench/results/cpu-*.json, written by bench/cpu-table, as the one table of bench/results/cpu.md (its first part; what
stands after the line `<!-- by hand -->` is kept).

    bench/cpu_page.py [--results bench/results]
"""
import argparse
import glob
import json
import os
import statistics

# What was promised (ratio to llama.cpp): by file, test and precision. First match wins; None: reported, nothing promised.
FLOORS = [
    (lambda n, r: n == "avx2", 1.1),
    (lambda n, r: r["what"] == "pp" and "F16" in r["model"], 0.9),
    (lambda n, r: n == "formats", 1.2),
    (lambda n, r: n == "prefill-fast", 1.9),
    (lambda n, r: n == "prefill", 1.6),
    (lambda n, r: n == "prefill-long", 1.6),
    (lambda n, r: n.startswith("depth"), 1.7),
    (lambda n, r: n == "sequences", {2: 1.8, 4: 2.5, 8: 4.0}),
    (lambda n, r: n == "decode", 1.05),
]
ORDER = ["decode", "sequences", "sequences-standard", "depth", "depth-q8", "prefill", "prefill-fast", "prefill-long", "formats",
         "formats-fast", "avx2"]


def floor(name, row):
    for match, value in FLOORS:
        if match(name, row):
            return value[row["batch"]] if isinstance(value, dict) else value
    return None


def line(name, info, row):
    m = statistics.median
    unit = "GB/s" if row["what"] == "tg" else "GMAC/s"
    promised = floor(name, row)
    # Spread of the ratio: the worst and the best pair of runs that stood beside each other.
    pairs = sorted(a / b for a, b in zip(row["ours"], row["theirs"]))
    verdict = "" if promised is None else "yes" if row["ratio"] >= promised else "**no**"
    return (f"| {name} | {row['model'].removesuffix('.gguf')} | {row['test']} | {info['precision']}, {info['kv_format']} | "
            f"{m(row['ours']):.1f} ({min(row['ours']):.1f}-{max(row['ours']):.1f}) | {m(row['theirs']):.1f} ({min(row['theirs']):.1f}-{max(row['theirs']):.1f}) | "
            f"**{row['ratio']:.2f}** ({pairs[0]:.2f}-{pairs[-1]:.2f}) | {promised or ''} | {verdict} | "
            f"{100 * m(row['fraction_of_limit']):.0f} % of {m(row['limit']):.0f} {unit} | {len(row['ours'])} |")


def first_line(row):
    def of(key):
        values = [r[key] for r in row["runs"]]
        return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
    m = lambda key: statistics.median(r[key] for r in row["runs"])
    return (f"| {row['model'].removesuffix('.gguf')} | {row['bytes'] / 1e9:.2f} | **{m('seconds'):.2f}** ({of('seconds').partition('(')[2]} | {m('user'):.2f} / {m('system'):.2f}, two threads | "
            f"{max(r['peak'] for r in row['runs']) / row['bytes']:.2f} | {of('memory_seconds')} | {len(row['runs'])} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", default="bench/results")
    args = p.parse_args()
    found = {}
    for path in glob.glob(os.path.join(args.results, "cpu-*.json")):
        name = os.path.basename(path)[len("cpu-"):-len(".json")]
        if name in ORDER:
            found[name] = json.load(open(path))
    info = next(found[n] for n in ORDER if n in found)  # the peer's build of the row avx2 stands with its command
    out = ["# Ponder on the CPU beside llama.cpp", "",
           f"{info['device']}, {info['threads']} threads; {info['peer']}. Both programs in turns, tokens per second: median (range). A ratio is that of the",
           "medians (in brackets the worst and the best pair of runs that stood beside each other). Last but one column: for tg the bytes",
           "of weights and KV read per second, beside a plain read of memory (mean of one just before and one just after); for pp the multiply-adds of the linear",
           "layers, beside the processor's int8 peak timed before it. Made by `bench/cpu_page.py` from `bench/results/cpu-*.json`, which",
           "hold every round; those are made by `bench/cpu-table PEER_PYTHON AVX2_PEER_PYTHON` (one row: `ONLY=name`).", "",
           "| row | model | test | precision, KV | Ponder | llama.cpp | ratio | floor | reached | of the limit beside it | rounds |",
           "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name in ORDER:
        if name in found:
            out += [line(name, found[name], r) for r in found[name]["rows"]]
    first = os.path.join(args.results, "cpu-first-token.json")
    first = json.load(open(first)) if os.path.exists(first) else None
    if first:
        out += ["", "From the start of `ponder run` to the first token, the file being in the page cache; beside each run the time in which one thread got",
                "as much memory as the file is large from the system. Promised: 1 s, and a peak of 1.2 times the file.", "",
                "| model | file, GB | first token, s: median (range) | of it computing / in the system, s | peak memory over file | beside: memory taken, s | runs |",
                "|---|---|---|---|---|---|---|"]
        out += [first_line(r) for r in first["rows"]]
    out += ["", "Commands, as recorded:", ""]
    out += [f"- {n}: `{found[n]['command']}` ({found[n]['date']}, {found[n]['isa']}, {found[n]['peer'].split(', ')[1]})" for n in ORDER if n in found]
    if first:
        out.append(f"- first token: `{first['command']}` ({first['date']})")
    page = os.path.join(args.results, "cpu.md")
    mark = "<!-- by hand -->"
    kept = open(page).read().partition(mark)[2] if os.path.exists(page) else "\n"
    with open(page, "w") as f:
        f.write("\n".join(out) + f"\n\n{mark}{kept}")


if __name__ == "__main__":
    main()
