"""Old thoughts leave the history and its KV is there all the same; a thought can be rewritten and goes on from there.

history_test.py BINARY

Every reply that used the cache is compared with one of a fresh server that had none: same tokens, same log-probabilities.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
from program import Program

PAGE = 64
QUESTION = "Question: What is 29170 × 246?"  # a long thought and, for this model, a long answer


def post(url, body, route="/api/chat"):
    request = urllib.request.Request(url + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as e:
        return json.load(e)


def ask(url, messages, **more):
    options = {"temperature": 0, "seed": 1, **more.pop("options", {})}
    return post(url, {"model": "ponder-tiny", "messages": messages, "stream": False, "logprobs": True, "top_logprobs": 3,
                      "receipt": True, "options": options, **more})


def same(a, b, what):
    assert a["receipt"]["prompt"] == b["receipt"]["prompt"], what
    assert a["receipt"]["actions"] == b["receipt"]["actions"], (what, a["message"], b["message"])
    assert a.get("logprobs") == b.get("logprobs"), what
    assert a["message"] == b["message"], what


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_idle(url):
    """Until nothing is computed ahead any more: memory in use stands still."""
    last, still = None, 0
    for _ in range(200):
        time.sleep(0.1)
        now = [m["size"] for m in post_get(url, "/api/ps")["models"]]
        still = still + 1 if now == last else 0
        last = now
        if still >= 8:
            return
    raise AssertionError("the server does not come to rest")


def post_get(url, route):
    with urllib.request.urlopen(url + route, timeout=60) as reply:
        return json.load(reply)


def cold(program, messages, **more):
    with program.serve() as url:
        return ask(url, messages, **more)


def main():
    program = Program(sys.argv[1])
    user, base = {"role": "user", "content": QUESTION}, []
    follow = {"role": "user", "content": "Are you sure? Say it again in other words."}
    with program.serve() as url:
        pid = program.server_pid
        # A conversation before it, so long that the answer reaches into a new page.
        for n in range(1, 90):
            base = [{"role": "user", "content": "Say " + "one " * n}, {"role": "assistant", "content": "One."}]
            if ask(url, base + [user], options={"num_predict": 1})["prompt_eval_count"] % PAGE == PAGE - 16:
                break
        first = ask(url, base + [user], options={"num_predict": 900})
        thought, answer = first["message"].get("thinking", ""), first["message"]["content"]
        assert first["thinking_tokens"] > PAGE and first["answer_tokens"] > 30, first["message"]
        wait_idle(url)
        reply = {"role": "assistant", "content": answer, "thinking": thought}
        # 1. The second turn: its prompt has no thought in it, and all of it but the new question was computed ahead.
        second = ask(url, base + [user, reply, follow], options={"num_predict": 60})
        shared = common(second["receipt"]["prompt"]["tokens"],
                        ask(url, base + [user, reply, {"role": "user", "content": "0"}], options={"num_predict": 1})["receipt"]["prompt"]["tokens"])
        # the pages that the first turn's own prompt and reply would have given
        without = common(second["receipt"]["prompt"]["tokens"], first["receipt"]["prompt"]["tokens"])
        assert second["cached_tokens"] == shared // PAGE * PAGE, (second["cached_tokens"], shared)
        assert second["cached_tokens"] > without // PAGE * PAGE, "the test's answer is too short to show anything"
        same(second, cold(program, base + [user, reply, follow], options={"num_predict": 60}), "second turn")

        # 2. With its thought kept the history is what was generated, and nothing needs to be computed again.
        kept = ask(url, base + [user, reply, follow], keep_thoughts=True, options={"num_predict": 60})
        assert kept["prompt_eval_count"] > second["prompt_eval_count"] + first["thinking_tokens"] - 8
        generated = first["receipt"]["prompt"]["tokens"] + sum((a.get("drawn", []) for a in first["receipt"]["actions"]), [])
        equal = common(kept["receipt"]["prompt"]["tokens"], generated)
        assert equal >= len(generated) - 2, (equal, len(generated))
        assert kept["cached_tokens"] >= (len(generated) - 2) // PAGE * PAGE, kept["cached_tokens"]
        same(kept, cold(program, base + [user, reply, follow], keep_thoughts=True, options={"num_predict": 60}), "kept thoughts")

        # 3. A thought cut in the middle goes on as it did; the kept part comes from the cache.
        words = thought.split(" ")
        cut = " ".join(words[:len(words) * 2 // 3]) + " "
        again = ask(url, base + [user, {"role": "assistant", "thinking": cut.rstrip(" ")}], options={"num_predict": 900})
        assert again["cached_tokens"] >= (len(first["receipt"]["prompt"]["tokens"]) + PAGE) // PAGE * PAGE, again["cached_tokens"]
        assert cut.rstrip(" ") + again["message"]["thinking"] == thought, (cut, again["message"]["thinking"], thought)
        assert again["message"]["content"] == answer
        same(again, cold(program, base + [user, {"role": "assistant", "thinking": cut.rstrip(" ")}], options={"num_predict": 900}), "cut")

        # 4. A rewritten thought, in both dialects and by all names of the field.
        rewritten = {"role": "assistant", "thinking": "Let me see. Nobody here tells the truth, so"}
        a = ask(url, base + [user, rewritten], options={"num_predict": 80})
        same(a, cold(program, base + [user, rewritten], options={"num_predict": 80}), "rewritten")
        assert a["message"]["thinking"] and not a["message"]["thinking"].startswith("Let me see")
        v1 = post(url, {"model": "ponder-tiny", "messages": base + [user, {"role": "assistant", "content": None,
                                                                     "reasoning_content": rewritten["thinking"]}],
                        "temperature": 0, "seed": 1, "max_tokens": 80, "continue_final_message": True}, "/v1/chat/completions")
        assert v1["choices"][0]["message"]["reasoning"] == a["message"]["thinking"], v1

        # 5. The beginning of an answer, with and without a thought before it.
        begun = {"role": "assistant", "thinking": thought, "content": "In short: "}
        b = ask(url, base + [user, begun], options={"num_predict": 30})
        assert b["thinking_tokens"] == 0 and not b["message"].get("thinking") and b["message"]["content"], b["message"]
        same(b, cold(program, base + [user, begun], options={"num_predict": 30}), "begun answer")
        bare = ask(url, base + [user, {"role": "assistant", "content": "In short: "}], options={"num_predict": 10})
        assert bare["thinking_tokens"] == 0 and not bare["message"].get("thinking")
        # ... which is a finished turn when the client says so.
        turn = ask(url, base + [user, {"role": "assistant", "content": "In short: "}], options={"num_predict": 10}, **{"continue": False})
        assert turn["receipt"]["prompt"] != bare["receipt"]["prompt"]

        # 6. What cannot be is said.
        error = ask(url, base + [user, rewritten], think=False)
        assert "begins a thought" in error["error"], error
        error = ask(url, base + [user], **{"continue": True})
        assert "nothing to continue" in error["error"], error
        error = ask(url, base + [user], receipt="yes")
        assert "receipt" in error["error"], error

        # 7. At rest.
        wait_idle(url)
        used = cpu_seconds(pid)
        time.sleep(3)
        used = cpu_seconds(pid) - used
        assert used < 0.15, f"an idle server used {used:.2f} s of processor time in 3 s"
    print(f"second turn: {second['cached_tokens']} of {second['prompt_eval_count']} prompt tokens were there "
          f"({without // PAGE * PAGE} without working ahead); idle processor time {used:.2f} s in 3 s")
    return 0


def common(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


if __name__ == "__main__":
    sys.exit(main())
