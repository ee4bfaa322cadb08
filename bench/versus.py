#!/usr/bin/env python3
"""Ponder beside llama.cpp on the same machine, the same file, in turns.

    bench/versus.py --peer-python PATH [--ponder build/ponder] [--case pp512,tg128] [--rounds 5] [--out NAME] MODEL.gguf...

PATH is a Python that has `llama-cpp-python` built natively (CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary
llama-cpp-python llama-cpp-python==0.3.36). A case is pp512 or tg128 with @4096 for tokens already there and x4 for four
sequences at once (tg128@4096, tg64x4: the rate is of all together). Each round times one program, then the other, so that
a drifting machine hits both; a plain read (tg) or the int8 peak (pp) is measured beside it. Medians are compared; every
round is kept in the JSON. Writes NAME.json and NAME.md, exits 1 if a floor given with --floor is missed.
"""
import argparse, json, os, platform, re, statistics, subprocess, sys, time

PEER = r'''
import sys, time, json, numpy as np, llama_cpp as lc
path, threads = sys.argv[1], int(sys.argv[2])
lc.llama_backend_init()
quiet = lc.llama_log_callback(lambda *a: None); lc.llama_log_set(quiet, None)
model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
rng = np.random.default_rng(0)
def decode(c, n, pos, sequences):
    b = lc.llama_batch_init(n * sequences, 0, 1); b.n_tokens = n * sequences
    for k in range(n * sequences):
        s, i = divmod(k, n)
        b.token[k] = int(rng.integers(100, 3000)); b.pos[k] = pos + i
        b.n_seq_id[k] = 1; b.seq_id[k][0] = s; b.logits[k] = i == n - 1
    assert lc.llama_decode(c, b) == 0; lc.llama_synchronize(c); lc.llama_batch_free(b)
def fill(c, n, pos, sequences):
    for at in range(0, n, 512 // sequences): decode(c, min(512 // sequences, n - at), pos + at, sequences)
key, contexts = None, []
for line in sys.stdin:
    what, n, depth, batch = line.split(); n, depth, batch = int(n), int(depth), int(batch)
    if key != (n, depth, batch):   # flash attention off and on: its best counts
        for c in contexts: lc.llama_free(c)
        contexts, key = [], (n, depth, batch)
        for flash in (0, 1):
            p = lc.llama_context_default_params()
            p.n_ctx = (depth + n + 64) * batch; p.n_batch = p.n_ubatch = 512; p.n_seq_max = batch
            p.n_threads = p.n_threads_batch = threads; p.flash_attn_type = flash
            contexts.append(lc.llama_init_from_model(model, p))
            decode(contexts[-1], 64 // batch, 0, batch)
    best = 0
    for c in contexts:
        lc.llama_memory_clear(lc.llama_get_memory(c), True)
        fill(c, depth, 0, batch)
        if what == 'tg': decode(c, 1, depth, batch)
        t = time.time()
        if what == 'pp': fill(c, n, depth, batch)
        else:
            for i in range(n): decode(c, 1, depth + 1 + i, batch)
        best = max(best, n * batch / (time.time() - t))
    print(json.dumps(best), flush=True)
'''

HEAD = '| model | test | Ponder tokens/s (range) | llama.cpp | ratio | of the limit measured beside it |\n|---|---|---|---|---|---|'


def parse_case(text):
    m = re.fullmatch(r'(pp|tg)(\d+)(?:@(\d+))?(?:x(\d+))?', text)
    if not m:
        raise argparse.ArgumentTypeError(f'{text}: a case is pp512, tg128, tg128@4096, tg64x4')
    return {'test': text, 'what': m[1], 'n': int(m[2]), 'depth': int(m[3] or 0), 'batch': int(m[4] or 1)}


def ponder(args, model, case):
    test = ['-p', str(case['n']), '-n', '0'] if case['what'] == 'pp' else ['-p', '0', '-n', str(case['n'])]
    command = [args.ponder, 'bench', model, *test, '-d', str(case['depth']), '-b', str(case['batch']), '-t', str(args.threads),
               '--precision', args.precision, '--kv', args.kv, '-r', '1', '--json']
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def versus(args, model):
    peer = subprocess.Popen([args.peer_python, '-c', PEER, model, str(args.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    rows, report = [], {}
    for case in args.case:
        ours, theirs, fractions, limits = [], [], [], []
        for _ in range(args.rounds):
            report = ponder(args, model, case)
            r = report['results'][0]
            ours.append(r['tokens_per_second']); fractions.append(r['fraction_of_limit'])
            limits.append(r['read_gb_per_second'] if case['what'] == 'tg' else report['int8_gmac_per_second'])
            peer.stdin.write('{what} {n} {depth} {batch}\n'.format(**case)); peer.stdin.flush()
            answer = peer.stdout.readline()
            if not answer:
                sys.exit(f'llama.cpp ended at {case["test"]} of {model}')
            theirs.append(json.loads(answer))
        rows.append({'model': os.path.basename(model), **case, 'ours': ours, 'theirs': theirs, 'fraction_of_limit': fractions,
                     'limit': limits, 'ratio': statistics.median(ours) / statistics.median(theirs)})
        print(line(rows[-1]), flush=True)
    peer.stdin.close(); peer.wait()
    return rows, report


def line(r):
    m = statistics.median
    unit = 'GB/s' if r['what'] == 'tg' else 'GMAC/s'
    return (f"| {r['model']} | {r['test']} | {m(r['ours']):.1f} ({min(r['ours']):.1f}-{max(r['ours']):.1f}) | "
            f"{m(r['theirs']):.1f} ({min(r['theirs']):.1f}-{max(r['theirs']):.1f}) | **{r['ratio']:.2f}x** | "
            f"{100 * m(r['fraction_of_limit']):.0f} % of {m(r['limit']):.0f} {unit} |")


def save(args, version, rows, about):
    info = {'date': time.strftime('%Y-%m-%d'), 'command': ' '.join(os.path.basename(a) if os.path.isabs(a) else a for a in sys.argv),
            'threads': args.threads, 'precision': args.precision, 'kernel': platform.release(),
            'peer': f'llama-cpp-python {version}, {args.peer}, flash attention on and off (its best counts)', **about}
    os.makedirs(os.path.dirname(args.out) or '.', exist_ok=True)
    json.dump({**info, 'rows': rows}, open(args.out + '.json', 'w'), indent=1)
    with open(args.out + '.md', 'w') as f:
        f.write(f"# Ponder beside llama.cpp\n\n{info['date']}, {about['device']}, {args.threads} threads, precision {args.precision} "
                f"({about['numerics_id']}, {about['isa']}), KV {about['kv_format']}; {info['peer']}. {args.rounds} rounds in turns, medians.\n\n"
                f"{HEAD}\n" + '\n'.join(map(line, rows)) + '\n')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('models', nargs='+'); p.add_argument('--peer-python', required=True); p.add_argument('--ponder', default='build/ponder')
    p.add_argument('--case', type=lambda s: [parse_case(c) for c in s.split(',')], default='pp512,tg128')
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--precision', default='standard'); p.add_argument('--kv', default='f16')
    p.add_argument('--peer', default='native build', help='how it was built, for the page')
    p.add_argument('--out'); p.add_argument('--floor', type=float, help='smallest ratio allowed')
    args = p.parse_args()
    print(HEAD)
    version = subprocess.run([args.peer_python, '-c', 'import llama_cpp; print(llama_cpp.__version__)'], capture_output=True, text=True).stdout.strip()
    rows = []
    for model in args.models:
        more, about = versus(args, model)
        rows += more
        if args.out:  # after each file: what was measured is kept when the rest is interrupted
            save(args, version, rows, {k: about[k] for k in ('device', 'isa', 'numerics_id', 'kv_format')})
    if args.floor and any(r['ratio'] < args.floor for r in rows):
        sys.exit(f'a ratio is below the floor of {args.floor}')


if __name__ == '__main__':
    main()
