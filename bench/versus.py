#!/usr/bin/env python3
"""Ponder beside llama.cpp on the same machine, the same file, in turns: pp512 and tg128 (and more, see --help).

    bench/versus.py --peer-python PATH [--ponder build/ponder] [--rounds 5] [--out bench/results/NAME] MODEL.gguf...

PATH is a Python that has `llama-cpp-python` built natively (CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary
llama-cpp-python llama-cpp-python==0.3.36). Each round times one program, then the other, so that a drifting machine
hits both. Medians are compared; every round is kept in the JSON. Writes NAME.json and NAME.md, exits 1 if a floor given
with --floor is missed.
"""
import argparse, json, os, platform, statistics, subprocess, sys, time

PEER = r'''
import sys, time, json, numpy as np, llama_cpp as lc
path, threads, n_pp, n_tg, depth = sys.argv[1], *map(int, sys.argv[2:6])
lc.llama_backend_init()
quiet = lc.llama_log_callback(lambda *a: None); lc.llama_log_set(quiet, None)
model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
rng = np.random.default_rng(0)
def context(flash):
    p = lc.llama_context_default_params()
    p.n_ctx = depth + max(n_pp, n_tg) + 64; p.n_batch = 512; p.n_ubatch = 512; p.n_threads = p.n_threads_batch = threads
    p.flash_attn_type = flash
    return lc.llama_init_from_model(model, p)
def decode(c, n, pos):
    b = lc.llama_batch_init(n, 0, 1); b.n_tokens = n
    for i in range(n):
        b.token[i] = int(rng.integers(100, 3000)); b.pos[i] = pos + i; b.n_seq_id[i] = 1; b.seq_id[i][0] = 0; b.logits[i] = i == n - 1
    assert lc.llama_decode(c, b) == 0; lc.llama_synchronize(c); lc.llama_batch_free(b)
contexts = {f: context(f) for f in (0, 1)}   # flash attention off and on: its best counts
def clear(c): lc.llama_memory_clear(lc.llama_get_memory(c), True)
def fill(c):
    clear(c)
    for at in range(0, depth, 512): decode(c, min(512, depth - at), at)
for c in contexts.values(): clear(c); decode(c, 64, 0)
for line in sys.stdin:
    what, best = line.strip(), 0
    for c in contexts.values():
        fill(c)
        if what == 'pp':
            t = time.time(); decode(c, n_pp, depth); rate = n_pp / (time.time() - t)
        else:
            decode(c, 1, depth); t = time.time()
            for i in range(n_tg): decode(c, 1, depth + 1 + i)
            rate = n_tg / (time.time() - t)
        best = max(best, rate)
    print(json.dumps(best), flush=True)
'''


def ponder(args, model, what, n):
    test = ['-p', str(n), '-n', '0'] if what == 'pp' else ['-p', '0', '-n', str(n)]
    out = subprocess.run([args.ponder, 'bench', model, *test, '-d', str(args.depth), '-t', str(args.threads), '--precision', args.precision,
                          '-r', '1', '--json'], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def versus(args, model):
    peer = subprocess.Popen([args.peer_python, '-c', PEER, model, str(args.threads), str(args.prompt), str(args.generate), str(args.depth)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rows = []
    for what, n in (('pp', args.prompt), ('tg', args.generate)):
        ours, theirs, fractions, limits = [], [], [], []
        for _ in range(args.rounds):
            report = ponder(args, model, what, n)
            r = report['results'][0]
            ours.append(r['tokens_per_second']); fractions.append(r['fraction_of_limit'])
            limits.append(r['read_gb_per_second'] if what == 'tg' else report['int8_gmac_per_second'])
            peer.stdin.write(what + '\n'); peer.stdin.flush()
            theirs.append(json.loads(peer.stdout.readline()))
        rows.append({'model': os.path.basename(model), 'test': f'{what}{n}', 'depth': args.depth, 'ours': ours, 'theirs': theirs,
                     'fraction_of_limit': fractions, 'limit': limits, 'ratio': statistics.median(ours) / statistics.median(theirs)})
        print(line(rows[-1]), flush=True)
    peer.stdin.close(); peer.wait()
    return rows, report


def line(r):
    m = statistics.median
    unit = 'GB/s' if r['test'].startswith('tg') else 'GMAC/s'
    return (f"| {r['model']} | {r['test']} at {r['depth']} | {m(r['ours']):.1f} ({min(r['ours']):.1f}-{max(r['ours']):.1f}) | "
            f"{m(r['theirs']):.1f} ({min(r['theirs']):.1f}-{max(r['theirs']):.1f}) | **{r['ratio']:.2f}x** | "
            f"{100 * m(r['fraction_of_limit']):.0f} % of {m(r['limit']):.0f} {unit} |")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('models', nargs='+'); p.add_argument('--peer-python', required=True); p.add_argument('--ponder', default='build/ponder')
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--prompt', type=int, default=512); p.add_argument('--generate', type=int, default=128); p.add_argument('--depth', type=int, default=0)
    p.add_argument('--precision', default='standard'); p.add_argument('--out'); p.add_argument('--floor', type=float, help='smallest ratio allowed')
    args = p.parse_args()
    head = '| model | test | Ponder tokens/s (range) | llama.cpp | ratio | of the limit measured beside it |\n|---|---|---|---|---|---|'
    print(head)
    rows, about = [], {}
    for model in args.models:
        more, about = versus(args, model)
        rows += more
    about = {k: about[k] for k in ('device', 'isa', 'numerics_id', 'kv_format')}
    version = subprocess.run([args.peer_python, '-c', 'import llama_cpp; print(llama_cpp.__version__)'], capture_output=True, text=True).stdout.strip()
    if args.out:
        info = {'date': time.strftime('%Y-%m-%d'), 'command': ' '.join(os.path.basename(a) if os.path.isabs(a) else a for a in sys.argv), 'threads': args.threads, 'precision': args.precision,
                'peer': f'llama-cpp-python {version}, native build, flash attention on and off (its best counts)', 'kernel': platform.release(), **about}
        os.makedirs(os.path.dirname(args.out) or '.', exist_ok=True)
        json.dump({**info, 'rows': rows}, open(args.out + '.json', 'w'), indent=1)
        with open(args.out + '.md', 'w') as f:
            f.write(f"# Ponder beside llama.cpp\n\n{info['date']}, {about['device']}, {args.threads} threads, precision {args.precision} ({about['numerics_id']}, "
                    f"{about['isa']}); {info['peer']}. {args.rounds} rounds in turns, medians.\n\n{head}\n" + '\n'.join(map(line, rows)) + '\n')
    if args.floor and any(r['ratio'] < args.floor for r in rows):
        sys.exit(f'a ratio is below the floor of {args.floor}')


if __name__ == '__main__':
    main()
