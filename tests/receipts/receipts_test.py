"""Receipts made by a busy server replay equal when alone, and what differs is found and named.

receipts_test.py BINARY [--receipts N] [--load N]
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import random
import struct
import sys
import time
import urllib.error
import urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, ".."), os.path.join(here, "..", "..", "models", "ponder-tiny")]
import tasks
from program import Program


def post(url, body, timeout=300):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return json.load(reply)


def digest(ids):
    return hashlib.sha256(b"".join(struct.pack("<i", i) for i in ids)).hexdigest()


def output_of(receipt):
    out, prompt = [], len(receipt["prompt"]["tokens"])
    for a in receipt["actions"]:
        out += a.get("drawn", []) + a.get("forced", [])
        if "rewind_to" in a:
            out = out[:a["rewind_to"] - prompt]
    return out


def make(url, n, load, rng):
    """Replies of every kind at once: greedy and warm, penalties, stops, budgets, both dialects, cut short."""
    jobs = []
    for i in range(n):
        _, question, *_ = tasks.sample(rng)
        options = {"temperature": rng.choice([0, 0.6, 1.0, 1.5]), "seed": i, "num_predict": rng.choice([40, 200, 400])}
        if i % 3 == 0:
            options.update(repeat_penalty=1.15, presence_penalty=0.3)
        if i % 4 == 1:
            options["stop"] = ["."]
        body = {"model": "ponder-tiny", "messages": [{"role": "user", "content": question}], "stream": False, "receipt": True}
        if i % 5 == 2:
            jobs.append(("/v1/chat/completions", {**body, "temperature": options["temperature"], "seed": i, "max_tokens": 200}))
        elif i % 5 == 3:
            jobs.append(("/api/chat", {**body, "options": options, "think": {"tokens": 24}}))
        else:
            jobs.append(("/api/chat", {**body, "options": options, "think": i % 7 != 0}))
    with concurrent.futures.ThreadPoolExecutor(load) as pool:
        return list(pool.map(lambda j: post(url + j[0], j[1]), jobs))


def votes(program):
    """A vote's receipt verifies every chain, the stop and the winner; the server replays as well as the program."""
    path = os.path.join(program.home.name, "vote.json")
    body = {"model": "ponder-tiny", "messages": [{"role": "user", "content": "What is 12 + 30?"}], "stream": False, "receipt": True,
            "options": {"temperature": 1.0, "seed": 3, "num_predict": 300}}

    def replay(reply, *flags):
        with open(path, "w") as f:
            json.dump(reply, f)
        return program.run("replay", "--json", *flags, path)

    with program.serve() as url:
        settled = post(url + "/api/chat", {**body, "vote": 8})
        full = post(url + "/api/chat", {**body, "vote": {"n": 4, "stop": "never"}})
        alone = post(url + "/api/chat", body)
        cut = post(url + "/api/chat", {**body, "vote": {"n": 3, "kind": "number"}, "options": {**body["options"], "stop": ["."]}})
        assert settled["vote"]["settled"] and settled["vote"]["cancelled"] > 0, settled["vote"]
        # Chain 0 is the reply without a vote, and its record too.
        assert full["receipt"]["chains"][0]["actions"] == alone["receipt"]["actions"]
        assert full["receipt"]["chains"][0]["output"] == alone["receipt"]["output"]
        for reply in (settled, full, cut):
            done = replay(reply)
            assert done.returncode == 0, done.stdout + done.stderr
            line = json.loads(done.stdout)
            assert line["equal"] and line["chains"] == reply["vote"]["n"] and line["verified_tokens"] == reply["vote"]["tokens"], line
            assert line["vote"]["again"]["winner"] == reply["vote"]["winner"], line
            # The server says the same, among other requests.
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                company = [pool.submit(post, url + "/api/chat", {**body, "receipt": False, "options": {"seed": i}}) for i in range(3)]
                there = post(url + "/api/replay", reply)
                [c.result() for c in company]
            for key in ("equal", "chains", "verified_tokens", "prompt_tokens", "vote"):
                assert there[key] == line[key], (key, there, line)
        there = post(url + "/api/replay", alone["receipt"])
        assert there["equal"], ("a bare receipt", there)
        there = post(url + "/api/replay", {"receipt": alone["receipt"]})
        assert there["equal"] and there["verified_tokens"] == alone["eval_count"] and "vote" not in there, there

        # Another winner: the tokens are equal, and the vote says otherwise. Another token of a chain: the chain is named.
        other = json.loads(json.dumps(full["receipt"]))
        other["vote"]["winner"] = (full["vote"]["winner"] + 1) % 4
        done = replay(other)
        assert done.returncode == 1 and not json.loads(done.stdout)["equal"] and "difference" not in done.stdout, done.stdout
        done = program.run("replay", path)
        assert "the vote differs" in done.stdout, done.stdout
        other = json.loads(json.dumps(full["receipt"]))
        chain = other["chains"][2]
        chain["actions"][0]["drawn"][3] = (chain["actions"][0]["drawn"][3] + 1) % 500
        chain["output"]["sha256"] = digest(output_of({**chain, "prompt": other["prompt"]}))
        for line in (json.loads(replay(other).stdout), post(url + "/api/replay", {"receipt": other})):
            assert not line["equal"] and line["difference"]["chain"] == 2 and line["difference"]["index"] == 3, line

        # What the server refuses, with the reason.
        for change, words in (({"receipt": 99}, "version 99"), ({"prompt": {"tokens": [1], "sha256": "x"}}, "digest"),
                              ({"model": {"name": "ponder-tiny", "sha256": "0" * 64}}, "another model file"),
                              ({"model": {"name": "nobody", "sha256": "0" * 64}}, "nobody")):
            try:
                post(url + "/api/replay", {"receipt": {**alone["receipt"], **change}})
                raise AssertionError(f"accepted: {change}")
            except urllib.error.HTTPError as e:
                assert e.code in (400, 404) and words in json.load(e)["error"], (e.code, words)
        forced = post(url + "/api/replay", {"receipt": {**alone["receipt"], "model": {"name": "ponder-tiny", "sha256": "0" * 64}}, "force": True})
        assert forced["equal"] and any("another model file" in r for r in forced["remarks"]), forced
    print(f"votes of {settled['vote']['n']} ({settled['vote']['cancelled']} cancelled) and {full['vote']['n']} replay equal")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--receipts", type=int, default=24)
    parser.add_argument("--load", type=int, default=8)
    args = parser.parse_args()
    program, rng = Program(args.binary), random.Random(5)
    start = time.time()
    with program.serve() as url:
        replies = make(url, args.receipts, args.load, rng)
        plain = post(url + "/api/chat", {"model": "ponder-tiny", "messages": [{"role": "user", "content": "2 + 2?"}], "stream": False})
        assert "receipt" not in plain
    made = time.time() - start
    files = []
    for i, reply in enumerate(replies):
        receipt = reply["receipt"]
        usage = reply.get("usage", {})
        tokens = sum(len(a.get("drawn", []) + a.get("forced", [])) for a in receipt["actions"])
        assert tokens == reply.get("eval_count", usage.get("completion_tokens")), (i, tokens, reply)
        assert digest(output_of(receipt)) == receipt["output"]["sha256"]
        path = os.path.join(program.home.name, f"{i}.json")
        with open(path, "w") as f:
            json.dump(reply if i % 2 else receipt, f)  # a whole reply will do as well
        files.append(path)
    done = program.run("replay", "--json", *files, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == args.receipts and all(line["equal"] for line in lines), done.stdout
    checked, seconds = sum(l["verified_tokens"] for l in lines), sum(l["verify_seconds"] for l in lines)
    assert checked == sum(r.get("eval_count", r.get("usage", {}).get("completion_tokens")) for r in replies)
    print(f"{len(lines)} receipts made under a load of {args.load} in {made:.1f} s replay equal: {checked} tokens, "
          f"{checked / max(seconds, 1e-9):.0f} a second")

    # A reply that was tampered with: the digest tells; with the digest mended, the first token that differs is named.
    receipt = json.loads(json.dumps(max(replies, key=lambda r: len(output_of(r["receipt"])))["receipt"]))
    path = os.path.join(program.home.name, "changed.json")

    def replay(receipt, *flags):
        with open(path, "w") as f:
            json.dump(receipt, f)
        return program.run("replay", *flags, path)

    drawn = next(a for a in receipt["actions"] if len(a.get("drawn", [])) > 6)
    was, drawn["drawn"][5] = drawn["drawn"][5], (drawn["drawn"][5] + 1) % 500
    done = replay(receipt)
    assert done.returncode == 1 and "sha256" in done.stderr, done.stderr
    receipt["output"]["sha256"] = digest(output_of(receipt))
    done = replay(receipt)
    position = drawn["at"] + 5
    assert done.returncode == 1 and f"(position {position})" in done.stdout, done.stdout + done.stderr
    assert f"drawn:    token {was} " in done.stdout and f"recorded: token {drawn['drawn'][5]} " in done.stdout, done.stdout
    drawn["drawn"][5] = was
    receipt["output"]["sha256"] = digest(output_of(receipt))

    # Another model, other numerics: refused with the reason, and done all the same when forced.
    other = json.loads(json.dumps(receipt))
    other["model"]["sha256"] = "0" * 64
    done = replay(other)
    assert done.returncode == 1 and "another model file" in done.stderr and "--force" in done.stderr, done.stderr
    done = replay(other, "--force")
    assert done.returncode == 0 and "equal" in done.stdout, done.stdout + done.stderr
    done = replay(receipt, "--precision", "fast")
    assert done.returncode == 1 and "numerics" in done.stderr, done.stderr
    done = replay(receipt, "--threads", "1")  # threads never matter
    assert done.returncode == 0, done.stdout + done.stderr

    # What is no receipt.
    for broken, words in (({}, "no receipt"), ({**receipt, "receipt": 99}, "version 99"), ({**receipt, "actions": 3}, "actions"),
                          ({**receipt, "prompt": {"tokens": [1], "sha256": "x"}}, "digest")):
        done = replay(broken)
        assert done.returncode == 1 and words in done.stderr, (words, done.stderr)

    votes(program)

    # The command line writes them too.
    own = os.path.join(program.home.name, "own.json")
    done = program.run("run", "ponder-tiny", "--receipt", own, "What is 17 + 25?")
    assert done.returncode == 0 and own in done.stderr, done.stderr
    done = program.run("replay", own)
    assert done.returncode == 0 and "equal" in done.stdout, done.stdout + done.stderr
    return 0


if __name__ == "__main__":
    sys.exit(main())
