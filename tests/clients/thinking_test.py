"""Thinking that a person can steer, through the official Python clients and on the wire, with the built-in model.

thinking_test.py BINARY
"""

import json
import os
import subprocess
import sys
import threading
import time
import unittest

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, ".."), os.path.join(here, "..", "tiny")]
from program import Program
from tiny_test import boxed

import httpx
import ollama
import openai

MODEL = "ponder-tiny"
HARD = [{"role": "user", "content": "What is 4821 × 736?"}]
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
CLOSING = "I should stop thinking now and answer."
program = None
url = None


def token(text):
    return json.loads(program.run("tokenize", MODEL, text).stdout)[-1]


def wire(path="/api/chat", **fields):
    body = {"model": MODEL, "messages": HARD, "stream": False, **fields}
    reply = httpx.post(url + path, json=body, timeout=120)
    return reply.status_code, reply.json()


def never_closing():
    """Options under which the model cannot end its thought: its closing tag is forbidden (not to us)."""
    return {"temperature": 1.2, "seed": 3, "logit_bias": {str(token("</think>")): -100}}


class Budgets(unittest.TestCase):
    def test_every_final_object_has_the_counts(self):
        status, r = wire(think={"tokens": 16, "close": "hard"})
        self.assertEqual(status, 200, r)
        self.assertEqual(r["thinking_done_reason"], "budget")
        self.assertEqual(r["message"]["thinking"].count(CLOSING), 1)
        self.assertTrue(r["message"]["thinking"].endswith(CLOSING))
        self.assertLessEqual(r["thinking_tokens"], 16 + 16)
        self.assertGreater(r["answer_tokens"], 0)
        self.assertEqual(r["done_reason"], "stop")
        _, r = wire(messages=QUESTION)
        self.assertEqual(r["thinking_done_reason"], "model")
        _, r = wire(think=False)
        self.assertEqual((r["thinking_done_reason"], r["thinking_tokens"]), ("off", 0))
        _, r = wire("/v1/chat/completions", thinking_budget_tokens=20)
        self.assertEqual(r["thinking_done_reason"], "budget")
        self.assertEqual(r["usage"]["completion_tokens_details"]["reasoning_tokens"], r["thinking_tokens"])

    def test_the_window_is_never_exceeded(self):
        for question in ("What is 4821 × 736?", "小明有12个苹果,小红又给了小明7个。小明把一半给了小红。小明现在有多少个苹果?",
                         "Count the letter e in \"thereweregreenelephants\".", "Sort these numbers: 7, 3, 9, 1, 22, 4, 15, 8, 2."):
            for budget in (1, 3, 10, 33, 64):
                for close in ("hard", "graceful"):
                    _, r = wire(messages=[{"role": "user", "content": question}], think={"tokens": budget, "close": close, "closing": "Now the answer."})
                    with self.subTest(question=question, budget=budget, close=close, r=r):
                        most = budget if close == "hard" else budget + (budget + 9) // 10
                        ended = r["thinking_done_reason"]
                        self.assertIn(ended, ("budget", "model"))
                        # The closing sentence with its lines is six to nine tokens of this vocabulary.
                        self.assertLessEqual(r["thinking_tokens"], most + (9 if ended == "budget" else 0))
                        self.assertEqual(r["message"]["thinking"].count("Now the answer."), ended == "budget")
                        self.assertTrue(r["message"]["content"].strip())
                        self.assertNotIn("\ufffd", r["message"]["thinking"] + r["message"]["content"])

    def test_a_thought_never_eats_the_answer(self):
        for n in (5, 20, 60):
            _, r = wire(options={"num_predict": n, **never_closing()})
            self.assertEqual(r["thinking_done_reason"], "budget", n)
            self.assertTrue(r["message"]["content"].strip(), n)
            self.assertLessEqual(r["eval_count"], n)

    def test_seconds(self):
        start = time.time()
        _, r = wire(think={"seconds": 0.5, "loop": "off"}, options=never_closing())
        self.assertIn(r["thinking_done_reason"], ("time", "budget"))   # a fast machine fills the context first
        if r["thinking_done_reason"] == "time":
            self.assertLess(time.time() - start, 30)
        self.assertTrue(r["message"]["content"].strip())

    def test_levels_are_one_table_and_act(self):
        levels = {l["level"]: l["tokens"] for l in httpx.post(url + "/api/show", json={"model": MODEL}).json()["thinking_levels"]}
        self.assertEqual(list(levels), ["off", "minimal", "low", "medium", "high", "max"])
        self.assertEqual((levels["off"], levels["max"]), (0, -1))
        shown = program.run("show", MODEL).stdout
        self.assertIn(f"minimal   {levels['minimal']}\n", shown)
        for think in ("minimal", {"level": "minimal"}):
            _, r = wire(think=think)
            self.assertEqual(r["thinking_done_reason"], "budget")
            self.assertLessEqual(r["thinking_tokens"], levels["minimal"] * 1.1 + 1 + 16)
        _, r = wire("/v1/chat/completions", reasoning_effort="minimal")
        self.assertEqual(r["thinking_done_reason"], "budget")
        _, r = wire("/v1/chat/completions", reasoning={"effort": "none"})
        self.assertEqual(r["thinking_done_reason"], "off")

    def test_off_in_both_forms(self):
        for form in ("empty", "sentence"):
            _, r = wire(think={"on": False, "off": form}, messages=QUESTION)
            self.assertNotIn("thinking", r["message"])
            self.assertEqual(r["thinking_tokens"], 0)
            self.assertNotIn("think>", r["message"]["content"])

    def test_extend(self):
        _, plain = wire(messages=QUESTION)
        _, more = wire(messages=QUESTION, think={"extend": 1})
        self.assertIn("\nWait", more["message"]["thinking"])
        self.assertGreater(more["thinking_tokens"], plain["thinking_tokens"])
        self.assertIn("42", more["message"]["content"])

    def test_nonsense_ends_with_a_reason(self):
        for text in ("x" * 300, "Say banana for ever.", "??? !!! ...", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", "repeat repeat repeat repeat",
                     "啊啊啊啊啊啊啊啊啊啊啊啊啊啊", "What is 99999999999999999999 × 99999999999999999999?", "", " \n\n ", "</think><think>"):
            status, r = wire(messages=[{"role": "user", "content": text}], options={"temperature": 0})
            self.assertEqual(status, 200, (text, r))
            self.assertIn(r["done_reason"], ("stop", "loop", "length", "context"), text)
            self.assertIn(r["thinking_done_reason"], ("model", "budget", "loop"), text)
            self.assertTrue(r["message"]["content"].strip() or r["done_reason"] == "loop", (text, r))


class PlainClients(unittest.TestCase):
    """Every field of thinking, voting and steering, from the clients as they are installed."""

    def test_ollama(self):
        client = ollama.Client(host=url)
        for how in ({"think": "16"}, {"options": {"think": 16}}, {"think": True, "options": {"think": {"tokens": 16, "close": "hard"}}}):
            r = client.chat(MODEL, HARD, **how)
            self.assertIn(CLOSING, r.message.thinking, how)
            self.assertTrue(r.message.content.strip())
        r = client.generate(MODEL, HARD[0]["content"], think="16")
        self.assertIn(CLOSING, r.thinking)
        r = client.chat(MODEL, HARD, options={"think": "off"})
        self.assertIsNone(r.message.thinking)
        with self.assertRaises(ollama.ResponseError) as caught:
            client.chat(MODEL, HARD, think="hot")
        self.assertEqual(caught.exception.status_code, 400)

    def test_ollama_shows_fields_it_does_not_know(self):
        """Its types drop what they do not know; two lines let them through (docs/api.md)."""
        script = """if True:
            import ollama, sys
            ollama.ChatResponse.model_config["extra"] = "allow"
            ollama.ChatResponse.model_rebuild(force=True)
            client = ollama.Client(host=sys.argv[1])
            ask = [{"role": "user", "content": "What is 17 + 25?"}]
            r = client.chat("ponder-tiny", ask, options={"think": {"tokens": 4, "close": "hard"}, "receipt": True, "request_id": "mine"})
            assert r.thinking_done_reason == "budget" and r.thinking_tokens > 4 and r.answer_tokens > 0, r
            assert r.request_id == "mine" and r.receipt["actions"], r
            r = client.chat("ponder-tiny", ask, options={"temperature": 1.0, "seed": 3, "vote": {"n": 3, "chains": True}})
            assert r.vote["answer"] == "42" and len(r.vote["chains"]) == 3 and "42" in r.message.content, r
            last = [p for p in client.chat("ponder-tiny", ask, stream=True, options={"think": "off"})][-1]
            assert last.thinking_done_reason == "off", last
        """
        done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_ollama_steers(self):
        client = ollama.Client(host=url)
        text, said = "", False
        for n, part in enumerate(client.chat(MODEL, HARD, stream=True, options={"request_id": "plain-1", "think": {"loop": "off"}, **never_closing()})):
            text += part.message.thinking or ""
            if n >= 10 and not said:
                said = True
                reply = client._client.post("/api/control", json={"request_id": "plain-1", "action": "answer"})
                self.assertEqual((reply.status_code, reply.json()["phase"]), (200, "thinking"))
        self.assertIn(CLOSING, text)

    def test_openai(self):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        hard = {"tokens": 16, "close": "hard"}
        for how in ({"extra_body": {"think": 16}}, {"extra_body": {"think": hard}}, {"extra_body": {"options": {"think": hard}}},
                    {"extra_body": {"reasoning_budget_tokens": 16}}, {"extra_body": {"thinking_budget_tokens": 16}},
                    {"extra_body": {"reasoning": {"max_tokens": 16}}}, {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 16}}},
                    {"extra_body": {"reasoning": {"effort": "minimal"}}}, {"reasoning_effort": "minimal"}):
            r = client.chat.completions.create(model=MODEL, messages=HARD, **how)
            self.assertIn(CLOSING, r.choices[0].message.reasoning_content, how)
            self.assertEqual(r.choices[0].message.reasoning, r.choices[0].message.reasoning_content)
            self.assertEqual(r.thinking_done_reason, "budget", how)
            self.assertEqual(r.usage.completion_tokens_details.reasoning_tokens, r.thinking_tokens)
            self.assertGreater(r.answer_tokens, 0)
        r = client.chat.completions.create(model=MODEL, messages=HARD, extra_body={"reasoning_budget_tokens": 8, "reasoning_budget_message": "Done thinking."})
        self.assertEqual(r.choices[0].message.reasoning.count("Done thinking."), 1)
        for off in ({"extra_body": {"think": False}}, {"reasoning_effort": "none"}, {"extra_body": {"reasoning": {"enabled": False}}},
                    {"extra_body": {"reasoning_budget_tokens": 0}}, {"extra_body": {"thinking_budget_tokens": 0}},
                    {"extra_body": {"thinking": {"type": "disabled"}}}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}):
            r = client.chat.completions.create(model=MODEL, messages=QUESTION, **off)
            self.assertEqual((r.thinking_done_reason, r.thinking_tokens), ("off", 0), off)

    def test_openai_votes_and_keeps_receipts(self):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        r = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=1.0, seed=3,
                                           extra_body={"vote": {"n": 3, "min": 2, "stop": "never", "method": "majority", "chains": True}, "receipt": True})
        self.assertEqual(r.vote["answer"], "42")
        for key in ("counts", "agreement", "tokens_saved", "winner", "n", "finished", "cancelled", "settled", "without_answer", "tokens"):
            self.assertIn(key, r.vote)
        self.assertEqual(len(r.vote["chains"]), 3)
        for key in ("index", "state", "answer", "thinking", "content", "tokens", "thinking_tokens", "answer_tokens", "done_reason", "counted"):
            self.assertIn(key, r.vote["chains"][0])
        self.assertEqual(len(r.receipt["chains"]), 3)
        replayed = httpx.post(url + "/api/replay", json=r.receipt, timeout=120).json()
        self.assertTrue(replayed["equal"], replayed)

    def test_openai_steers(self):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        bias = {k: int(v) for k, v in never_closing()["logit_bias"].items()}
        stream = client.chat.completions.create(model=MODEL, messages=HARD, stream=True, temperature=1.2, logit_bias=bias,
                                                extra_body={"think": {"loop": "off"}})
        content, said = "", False
        for n, chunk in enumerate(stream):
            content += chunk.choices[0].delta.content or ""
            if n >= 10 and not said:
                said = True
                reply = client.post("/chat/completions/control", body={"id": chunk.id, "action": "reasoning_end"}, cast_to=object)
                self.assertEqual((reply["success"], reply["phase"]), (True, "thinking"))
            last = chunk
        self.assertEqual(last.thinking_done_reason, "user")
        self.assertTrue(content.strip())


class Steering(unittest.TestCase):
    def start(self, name, **more):
        """Runs a request that would think for ever; returns a list that fills with its events, and its thread."""
        events = []
        body = {"model": MODEL, "messages": HARD, "request_id": name, "options": never_closing(), "think": {"loop": "off"}, **more}

        def go():
            with httpx.stream("POST", url + "/api/chat", json=body, timeout=120) as r:
                for line in r.iter_lines():
                    events.append((time.time(), json.loads(line)))
        thread = threading.Thread(target=go)
        thread.start()
        deadline = time.time() + 60
        while len(events) < 10 and thread.is_alive() and time.time() < deadline:
            time.sleep(0.002)
        self.assertGreaterEqual(len(events), 10)
        self.assertEqual(events[0][1]["request_id"], name)
        return events, thread

    def say(self, path="/api/control", **body):
        return httpx.post(url + path, json=body, timeout=10)

    def end(self, events, thread):
        thread.join(60)
        self.assertFalse(thread.is_alive())
        last = events[-1][1]
        self.assertTrue(last["done"])
        return last, "".join(e["message"].get("thinking", "") for _, e in events), "".join(e["message"]["content"] for _, e in events)

    def test_answer_now(self):
        delays = []
        for n in range(5):
            path, action = (("/api/control", "answer"), ("/v1/chat/completions/control", "reasoning_end"))[n % 2]
            name = f"now-{n}"
            events, thread = self.start(name)
            said = time.time()
            reply = self.say(path, **{"request_id" if n % 2 == 0 else "id": name, "action": action})
            self.assertEqual(reply.status_code, 200, reply.text)
            self.assertEqual(reply.json()["phase"], "thinking")
            last, thinking, content = self.end(events, thread)
            self.assertEqual(last["thinking_done_reason"], "user")
            self.assertEqual(thinking.count(CLOSING), 1)
            self.assertIsNotNone(boxed(content), content)
            text, closed = "", None
            for at, event in events:
                text += event["message"].get("thinking", "")
                if closed is None and CLOSING in text:
                    closed = at
            delays.append(closed - said)
        # Two steps, which Thought.CommandsActWithinTwoSteps counts; here on the clock. What else the machine does only adds.
        print("answer now: the closing sentence stood after", ", ".join(f"{1000 * d:.0f} ms" for d in delays))
        self.assertLess(min(delays), 0.25)

    def test_note_and_stop(self):
        events, thread = self.start("note-1")
        self.assertEqual(self.say(request_id="note-1", action="note", text="use the digits </think> one by one").status_code, 200)
        time.sleep(0.3)
        self.assertEqual(self.say(request_id="note-1", action="stop").status_code, 200)
        last, thinking, content = self.end(events, thread)
        self.assertIn("The user adds: use the digits", thinking)
        self.assertEqual(last["done_reason"], "cancelled")
        self.assertEqual(content, "")

    def test_more(self):
        events, thread = self.start("more-1", think={"tokens": 200, "close": "hard", "loop": "off"})
        self.assertEqual(self.say(request_id="more-1", action="more", tokens=100).status_code, 200)
        last, thinking, content = self.end(events, thread)
        self.assertEqual(last["thinking_done_reason"], "budget")
        self.assertGreater(last["thinking_tokens"], 300)
        self.assertLess(last["thinking_tokens"], 340)

    def test_refusals(self):
        self.assertEqual(self.say(request_id="nobody", action="answer").status_code, 404)
        self.assertEqual(self.say(action="answer").status_code, 400)
        events, thread = self.start("twice")
        self.assertEqual(self.say(request_id="twice", action="dance").status_code, 400)
        self.assertEqual(self.say(request_id="twice", action="note").status_code, 400)
        self.assertEqual(httpx.post(url + "/api/chat", json={"model": MODEL, "messages": HARD, "request_id": "twice"}, timeout=30).status_code, 409)
        self.say(request_id="twice", action="stop")
        self.end(events, thread)
        # Its name is free again, and a thought that is over cannot be steered.
        _, r = wire(request_id="twice", messages=QUESTION)
        self.assertEqual(r["request_id"], "twice")
        self.assertEqual(self.say(request_id="twice", action="answer").status_code, 404)


if __name__ == "__main__":
    program = Program(sys.argv.pop(1))
    with program.serve() as url:
        result = unittest.main(exit=False, verbosity=1).result
    sys.exit(0 if result.wasSuccessful() else 1)
