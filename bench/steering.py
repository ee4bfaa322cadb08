#!/usr/bin/env python3
"""How soon a person's word acts on a thought that runs: answer now, note, think more, stop, and hanging up. For a quiet machine.

    bench/steering.py [--ponder build/ponder] [--times 20] [--chains 8] [--out bench/results/steering] [MODEL.gguf ...]

Without a model the built-in one. Each act is done TIMES times at a random moment of a thought that would go on, of one chain
and of a vote. The time runs from the request's last byte to what is seen of it on the stream: the closing sentence, the
note, the final object; of "more" the next token after its reply, and the thought must then outlast its budget; hanging up
counts until `/api/ps` says that nothing runs any more.
Wanted: two steps of the model or 250 ms, whichever is later. Exits 1 when a median is above that.
"""
import argparse, http.client, json, os, random, socket, statistics, sys, threading, time
import urllib.error, urllib.parse, urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from program import Program

CLOSING, NOTE, WANTED = "That is all I had to think.", "look at the last digit", 0.25
WORDS = " the light of our star comes with many colours and air sends blue more than red so you see it from every side"


def post(url, path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def running(url):
    with urllib.request.urlopen(url + "/api/ps", timeout=60) as reply:
        return sum(m["running"] + m["waiting"] for m in json.load(reply)["models"])


class Stream:
    """A request that thinks until it is told otherwise, and its events with their times."""

    def __init__(self, url, model, name, options, think, vote):
        self.events, self.url, self.name = [], url, name
        body = {"model": model, "messages": [{"role": "user", "content": "What is 4821 × 736?"}], "request_id": name, "think": think,
                "options": options, **({"vote": vote} if vote else {})}
        self.connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc, timeout=600)
        self.connection.request("POST", "/api/chat", json.dumps(body), {"Content-Type": "application/json"})
        self.reply = self.connection.getresponse()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            while line := self.reply.readline():
                self.events.append((time.perf_counter(), json.loads(line)))
        except (OSError, ValueError, http.client.HTTPException):
            pass  # hung up

    def tokens(self):
        """Of the thought so far; of a vote its first chain's."""
        votes = [e["vote"] for _, e in self.events if "vote" in e and not e["done"]]
        return votes[-1]["chains"][0]["tokens"] if votes else sum("thinking" in e["message"] for _, e in self.events)

    def wait(self, tokens):
        while self.tokens() < tokens and self.thread.is_alive():
            time.sleep(0.001)
        assert self.thread.is_alive(), self.events[-1]

    def say(self, action, **more):
        said = time.perf_counter()
        reply = post(self.url, "/api/control", {"request_id": self.name, "action": action, **more})
        assert reply["phase"] == "thinking", reply
        return said, time.perf_counter()

    def hang_up(self):
        said = time.perf_counter()
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        while running(self.url):
            time.sleep(0.001)
        return time.perf_counter() - said

    def first(self, what):
        """Waits for the first event of which what(text of the thought so far, event, its time) holds: its time."""
        i, text = 0, ""
        while True:
            for at, event in self.events[i:]:
                text += event["message"].get("thinking", "")
                if what(text, event, at):
                    return at
                i += 1
            assert self.thread.is_alive() or i < len(self.events), (self.name, text[-200:], self.events[-1])
            time.sleep(0.0005)

    def end(self):
        if self.thread.is_alive():
            try:
                post(self.url, "/api/control", {"request_id": self.name, "action": "stop"})
            except urllib.error.HTTPError:
                pass  # it had ended by itself
        self.thread.join()


def measure(url, model, forbidden, args, chains):
    """{act: [seconds, ...]}"""
    rng, vote = random.Random(5), {"n": chains, "stop": "never"} if chains > 1 else None
    options = {"temperature": 1.0, "seed": 3, "num_predict": args.room, **({"logit_bias": forbidden} if forbidden else {})}
    endless = {"loop": "off", "closing": CLOSING}
    acts = ("answer", "stop", "hang up") if vote else ("answer", "note", "more", "stop", "hang up")
    found = {act: [] for act in acts}
    for i in range(args.times):
        for act in acts:
            think, at = endless, rng.randint(10, args.latest)
            if act == "more":
                think = {**endless, "tokens": at + 30, "close": "hard"}
            s = Stream(url, model, f"{act.replace(' ', '-')}-{chains}-{i}", options, think, vote)
            s.wait(at)
            if act == "hang up":
                found[act].append(s.hang_up())
                s.thread.join()
                continue
            said, replied = s.say(act, **({"text": NOTE} if act == "note" else {"tokens": 40} if act == "more" else {}))
            what = {"answer": lambda text, e, t: CLOSING in text, "note": lambda text, e, t: NOTE in text, "stop": lambda text, e, t: e["done"],
                    "more": lambda text, e, t: t >= replied and "thinking" in e["message"]}[act]
            if act == "answer" and vote:
                what = lambda text, e, t: "vote" in e and all(c["state"] in ("answering", "finished") for c in e["vote"]["chains"])
            found[act].append(max(0.0, s.first(what) - said))
            if act == "more":
                s.wait(at + 34)   # past the budget that it had
            s.end()
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*")
    p.add_argument("--ponder", default="build/ponder")
    p.add_argument("--times", type=int, default=20)
    p.add_argument("--chains", type=int, default=8)
    p.add_argument("--latest", type=int, default=60, help="tokens of the thought before the call, at most")
    p.add_argument("--room", type=int, default=400)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--out")
    args = p.parse_args()
    rows, missed = [], False
    for path in args.models or ["ponder-tiny"]:
        program = Program(args.ponder)
        env = {"PONDER_THREADS": str(args.threads)}
        name = "ponder-tiny" if path == "ponder-tiny" else "bench-steering"
        if path != "ponder-tiny":
            assert program.run("create", name, "--from", os.path.abspath(path), env=env, timeout=600).returncode == 0
        # Words only, so that neither thought nor reply ends by itself, whatever weights the file has.
        ids = json.loads(program.run("tokenize", name, WORDS, env=env, timeout=600).stdout)
        words = {str(i): 100 for i in ids}
        with program.serve(env=env) as url:
            post(url, "/api/chat", {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": False, "options": {"num_predict": 1}})
            for chains in (1, args.chains):
                r = post(url, "/api/chat", {"model": name, "messages": [{"role": "user", "content": "x"}], "stream": False, "think": {"loop": "off"},
                                            "options": {"num_predict": 64, "temperature": 1.0, "logit_bias": words}, **({"vote": {"n": chains, "stop": "never"}} if chains > 1 else {})})
                step = r["eval_duration"] / 1e9 / 63
                for act, times in measure(url, name, words, args, chains).items():
                    seconds = sorted(times)
                    median = statistics.median(seconds)
                    missed |= median > max(2 * step, WANTED)
                    rows.append(f"| {os.path.basename(path)} | {chains} | {act} | {1000 * step:.1f} | **{1000 * median:.0f}** | {1000 * seconds[-1]:.0f} |")
                    print(rows[-1], flush=True)
    head = "| model | chains | act | step, ms | median, ms | worst, ms |\n|---|---|---|---|---|---|"
    if args.out:
        cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown processor")
        with open(args.out + ".md", "w") as f:
            f.write(f"# Steering a thought that runs\n\n{time.strftime('%Y-%m-%d')}, {cpu}, {args.threads} threads, {args.times} times each. "
                    f"`bench/steering.py MODEL ... --out bench/results/steering`: from the call to what is seen of it on the stream (hanging up: until nothing runs).\n\n"
                    + head + "\n" + "\n".join(rows) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
