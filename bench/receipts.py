#!/usr/bin/env python3
"""How fast receipts are replayed, and how soon a second turn begins after a long thought. For a quiet machine.

    bench/receipts.py [--ponder build/ponder] [--tokens 256] [--load 8] [--receipts 8] [--thought 2048] [--answer 600] [--threads N]
                      [--precision P] [--part both] [--out bench/results/receipts] [--floors] MODEL.gguf

Replay: RECEIPTS requests, LOAD at once, each with a receipt, then three alone; then every receipt replayed alone. Beside the
replay's tokens a second stand those of its own generation (under load) and of the lone chain.
Second turn: a thought of THOUGHT tokens (closed by a hard budget) and an answer of ANSWER tokens; then, after the server came to rest, a second question. Its time to the first token stands beside those of other questions of the same length after the same
conversation (which the second request put into the cache: a fully cached prefix), of the same request asked again, and of
a server that was just started (nothing cached). Writes NAME.json and NAME.md; --part replay or turn measures that part anew and keeps the other's figures; --floors exits 1
below the house's.
"""
import argparse, concurrent.futures, json, os, statistics, subprocess, sys, tempfile, time, urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from program import Program

NAME = "bench-receipts"
WORDS = (" the light of our star comes with many colours and air sends blue more than red so you see it from every side while red goes on"
         " far away until evening when its way through air is long and only red is left for us to see")


def post(url, body):
    request = urllib.request.Request(url + "/api/chat", json.dumps({"model": NAME, "stream": False, **body}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as reply:
        return json.load(reply)


def rate(reply):
    return (reply["eval_count"] - 1) / (reply["eval_duration"] / 1e9)


def replay_speed(program, env, args):
    def ask(url, i):
        return post(url, {"messages": [{"role": "user", "content": f"Question {i}: why is the sky blue?"}], "receipt": True,
                          "options": {"seed": i, "temperature": 0.8, "num_predict": args.tokens}})
    with program.serve(*args.compute, env=env) as url:
        ask(url, 999)  # load and warm up
        with concurrent.futures.ThreadPoolExecutor(args.load) as pool:
            busy = list(pool.map(lambda i: ask(url, i), range(args.receipts)))
        lone = [ask(url, 1000 + i) for i in range(3)]
    files = []
    for i, reply in enumerate(busy):
        files.append(os.path.join(program.home.name, f"receipt-{i}.json"))
        with open(files[-1], "w") as f:
            json.dump(reply, f)
    done = program.run("replay", "--json", "--threads", str(args.threads), *files, env=env, timeout=3600)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == args.receipts and all(l["equal"] for l in lines), done.stdout + done.stderr
    speeds = [l["verified_tokens"] / l["verify_seconds"] for l in lines]
    alone = statistics.median(map(rate, lone))
    return {"load": args.load, "receipts": args.receipts, "tokens": args.tokens, "all_equal": True,
            "generating_under_load": statistics.median(map(rate, busy)), "generating_alone": alone,
            "replaying": statistics.median(speeds), "slowest_replay": min(speeds),
            "times_own": min(s / rate(b) for s, b in zip(speeds, busy)), "times_alone": min(speeds) / alone}


def second_turn(program, env, args):
    user = {"role": "user", "content": "Why is the sky blue? Explain it to a child."}
    length = args.thought + args.answer + 100
    options = {"seed": 1, "temperature": 0.8, "num_predict": length, "num_ctx": length + 4096}
    follow = {"messages": None, "options": {**options, "num_predict": 8}}
    ask = lambda url, history, hour: post(url, {**follow, "messages": history + [{"role": "user", "content": f"And why is it red at {hour} in the evening?"}]})
    with program.serve(*args.compute, env=env) as url:
        # Words only: the reply ends where it is told to, and its text has as many tokens whatever weights the file has.
        ids = json.loads(program.run("tokenize", NAME, WORDS, env=env).stdout)
        first = post(url, {"messages": [user], "think": {"tokens": args.thought, "close": "hard", "loop": "off", "answer": args.answer},
                           "options": {**options, "logit_bias": {str(i): 100 for i in ids}}})
        assert first["thinking_tokens"] > 0.9 * args.thought and first["answer_tokens"] > args.answer // 2, first
        history = [user, {"role": "assistant", "content": first["message"]["content"], "thinking": first["message"].get("thinking", "")}]
        time.sleep(args.rest)
        warm = ask(url, history, 6)
        others = [ask(url, history, hour) for hour in (5, 7, 8, 9, 4)]
        again = [ask(url, history, 6) for _ in range(5)]
    with program.serve(*args.compute, env=env) as url:
        post(url, {"messages": [{"role": "user", "content": "x"}], "options": {"num_predict": 1}})
        cold = ask(url, history, 6)
    assert all(o["prompt_eval_count"] == warm["prompt_eval_count"] for o in others), "the questions differ in length"
    assert warm["message"] == cold["message"], "the second turn differs from a cold run"
    ms = lambda r: r["first_token_duration"] / 1e6
    full = statistics.median(map(ms, others))
    return {"thinking_tokens": first["thinking_tokens"], "answer_tokens": first["answer_tokens"], "prompt_tokens": warm["prompt_eval_count"],
            "cached_tokens": warm["cached_tokens"], "warm_ms": ms(warm), "fully_cached_ms": full, "cached_tokens_of_others": others[0]["cached_tokens"],
            "again_ms": statistics.median(map(ms, again)), "cold_ms": ms(cold),
            "times_fully_cached": ms(warm) / full}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ponder", default="build/ponder")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--load", type=int, default=8)
    parser.add_argument("--receipts", type=int, default=8)
    parser.add_argument("--part", choices=("both", "replay", "turn"), default="both")
    parser.add_argument("--thought", type=int, default=2048)
    parser.add_argument("--answer", type=int, default=600)
    parser.add_argument("--rest", type=float, default=20, help="seconds between the turns")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", default="standard")
    parser.add_argument("--out", default="bench/results/receipts")
    parser.add_argument("--floors", action="store_true")
    args = parser.parse_args()
    args.compute = ["--threads", str(args.threads), "--precision", args.precision]
    program, env = Program(args.ponder), {"OLLAMA_NUM_PARALLEL": str(args.load), "PONDER_THREADS": str(args.threads)}
    made = program.run("create", NAME, "--from", os.path.abspath(args.model), env=env)
    assert made.returncode == 0, made.stderr
    result = {"model": os.path.basename(args.model), "threads": args.threads, "precision": args.precision}
    old = {}
    if args.part != "both":
        with open(args.out + ".json") as f:
            old = json.load(f)
    for key, part, measure in (("replay", "replay", replay_speed), ("second_turn", "turn", second_turn)):
        result[key] = measure(program, env, args) if args.part in ("both", part) else old[key]
    r, t = result["replay"], result["second_turn"]
    text = f"""# Receipts and second turns: {result['model']}, {args.threads} threads, {args.precision}

| replay of {r['receipts']} receipts of {r['tokens']} tokens, made under a load of {r['load']} | tokens/s |
|---|---|
| one of {r['load']} generating at once (median) | {r['generating_under_load']:.1f} |
| one generating alone | {r['generating_alone']:.1f} |
| replaying (slowest {r['slowest_replay']:.1f}) | {r['replaying']:.1f} |

All equal. At least {r['times_own']:.2f} times each one's own speed, {r['times_alone']:.2f} times a lone chain's.

| second turn after a thought of {t['thinking_tokens']} tokens and an answer of {t['answer_tokens']} ({t['cached_tokens']} of {t['prompt_tokens']} prompt tokens cached) | first token, ms |
|---|---|
| computed ahead | {t['warm_ms']:.1f} |
| fully cached prefix: other questions after the same conversation | {t['fully_cached_ms']:.1f} |
| the same question again | {t['again_ms']:.1f} |
| nothing cached | {t['cold_ms']:.1f} |

{t['times_fully_cached']:.2f} times the fully cached prefix's; the same text as without a cache.
"""
    with open(args.out + ".json", "w") as f:
        json.dump(result, f, indent=1)
    with open(args.out + ".md", "w") as f:
        f.write(text)
    print(text)
    good = r["times_own"] >= 5 and r["times_alone"] >= 2.5 and t["times_fully_cached"] <= 1.2
    return 1 if args.floors and not good else 0


if __name__ == "__main__":
    sys.exit(main())
