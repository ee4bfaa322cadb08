#!/usr/bin/env python3
"""From the start of the program to the first token of an answer, the model's file being in the page cache.

    bench/first_token.py [--ponder build/ponder] [--runs 10] [--threads N] [--out bench/results/cpu-first-token] [--floors] MODEL.gguf...

Each run reads the whole file first (a system may have given its pages away since the last one), then takes, touches and gives back
as much memory as the file is large, from one thread in huge pages where there are any: what the system needs to hand out memory is
no property of the program, and a virtual machine that has to fetch it from its host needs long. Then `ponder run MODEL Hello
--num-predict 1` is timed from its start to the first byte of the answer. Writes NAME.json for bench/cpu_page.py; --floors exits 1
above what the house promises.
"""
import argparse, json, mmap, os, statistics, subprocess, sys, tempfile, time

FLOOR_SECONDS, FLOOR_MEMORY = 1.0, 1.2


def read_whole(path):
    start = time.monotonic()
    with open(path, "rb", buffering=0) as f:
        buffer = bytearray(8 << 20)
        while f.readinto(buffer):
            pass
    return time.monotonic() - start


def take_memory(size):
    start = time.monotonic()
    child = os.fork()  # a process started later inherits the largest size that this one ever had
    if child == 0:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
            m.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, size, 4096):
                m[at] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return time.monotonic() - start


def first_token(args, model, home):
    env = {k: os.environ[k] for k in ("PATH", "LANG", "PONDER_ISA") if k in os.environ}
    env.update(HOME=home, OLLAMA_HOST="127.0.0.1:9", LC_ALL="C.UTF-8")  # nobody's server answers for the program
    start = time.monotonic()
    process = subprocess.Popen([args.ponder, "run", model, "Hello", "--num-predict", "1", "--threads", str(args.threads)],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    process.stdout.read(1)
    seconds = time.monotonic() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{args.ponder} ended with {process.returncode}"
    return {"seconds": seconds, "exit_seconds": time.monotonic() - start, "user": usage.ru_utime, "system": usage.ru_stime,
            "minor_faults": usage.ru_minflt, "major_faults": usage.ru_majflt, "peak": usage.ru_maxrss << 10}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+"); p.add_argument("--ponder", default="build/ponder"); p.add_argument("--runs", type=int, default=10)
    p.add_argument("--threads", type=int, default=os.cpu_count()); p.add_argument("--out"); p.add_argument("--floors", action="store_true")
    args = p.parse_args()
    rows, good = [], True
    with tempfile.TemporaryDirectory(prefix="ponder-first-token-") as home:
        for model in args.models:
            size = os.path.getsize(model)
            runs = []
            for _ in range(args.runs):
                before = {"read_seconds": read_whole(model), "memory_seconds": take_memory(size)}
                runs.append({**before, **first_token(args, os.path.abspath(model), home)})
            m = lambda key: statistics.median(r[key] for r in runs)
            peak = max(r["peak"] for r in runs) / size
            good = good and m("seconds") <= FLOOR_SECONDS and peak <= FLOOR_MEMORY
            rows.append({"model": os.path.basename(model), "bytes": size, "runs": runs})
            print(f"{os.path.basename(model)}: first token after {m('seconds'):.2f} s ({min(r['seconds'] for r in runs):.2f}-{max(r['seconds'] for r in runs):.2f}), "
                  f"user {m('user'):.2f} s, system {m('system'):.2f} s, {m('minor_faults'):.0f} minor and {m('major_faults'):.0f} major faults; peak {peak:.2f} of the file; "
                  f"beside: as much memory taken in {m('memory_seconds'):.2f} s ({min(r['memory_seconds'] for r in runs):.2f}-{max(r['memory_seconds'] for r in runs):.2f}), "
                  f"the file read in {m('read_seconds'):.2f} s", flush=True)
    if args.out:
        with open(args.out + ".json", "w") as f:
            json.dump({"date": time.strftime("%Y-%m-%d"), "command": " ".join(os.path.basename(a) if os.path.isabs(a) else a for a in sys.argv),
                       "threads": args.threads, "rows": rows}, f, indent=1)
    return 1 if args.floors and not good else 0


if __name__ == "__main__":
    sys.exit(main())
