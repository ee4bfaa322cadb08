"""The official Python clients (`pip install ollama openai`) against `ponder serve` with the built-in model.

python_test.py BINARY
"""

import json
import os
import signal
import subprocess
import sys
import time
import unittest

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
from program import Program

import httpx
import ollama
import openai

MODEL = "ponder-tiny"
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
program = None
url = None


def endless(n):
    """Options under which the model goes on for `n` tokens: its end token is forbidden."""
    ids = json.loads(program.run("tokenize", MODEL, "<｜end▁of▁sentence｜>").stdout)
    return {"logit_bias": {str(ids[-1]): -100}, "num_predict": n}


class Ollama(unittest.TestCase):
    def setUp(self):
        self.client = ollama.Client(host=url)

    def test_chat(self):
        r = self.client.chat(MODEL, QUESTION)
        self.assertIn("42", r.message.content)
        self.assertEqual(r.message.role, "assistant")
        self.assertTrue(r.message.thinking)
        self.assertNotIn("think>", r.message.thinking + r.message.content)
        self.assertTrue(r.done)
        self.assertEqual(r.done_reason, "stop")
        self.assertEqual(r.model, MODEL)
        self.assertGreater(r.prompt_eval_count, 0)
        self.assertGreater(r.eval_count, 10)
        self.assertGreater(r.total_duration, r.eval_duration)

    def test_stream_is_the_same_text(self):
        whole = self.client.chat(MODEL, QUESTION)
        parts = list(self.client.chat(MODEL, QUESTION, stream=True))
        self.assertGreater(len(parts), 5)
        self.assertEqual("".join(p.message.content or "" for p in parts), whole.message.content)
        self.assertEqual("".join(p.message.thinking or "" for p in parts), whole.message.thinking)
        self.assertEqual([p.done for p in parts], [False] * (len(parts) - 1) + [True])
        first_answer = next(i for i, p in enumerate(parts) if p.message.content)
        self.assertFalse(any(p.message.thinking for p in parts[first_answer + 1:]), "the thought comes before the answer")

    def test_generate(self):
        r = self.client.generate(MODEL, "What is 17 + 25?")
        self.assertIn("42", r.response)
        self.assertTrue(r.thinking)
        self.assertGreater(len(r.context), r.prompt_eval_count)
        parts = list(self.client.generate(MODEL, "What is 17 + 25?", stream=True))
        self.assertEqual("".join(p.response for p in parts), r.response)
        raw = self.client.generate(MODEL, "<｜User｜>What is 17 + 25?<｜Assistant｜><think>\n", raw=True)
        self.assertIn("42", raw.response)

    def test_context_continues_a_conversation(self):
        first = self.client.generate(MODEL, "What is 17 + 25?")
        second = self.client.generate(MODEL, "What is 3 + 4?", context=first.context)
        self.assertGreater(second.prompt_eval_count, len(first.context))
        self.assertIn("7", second.response)

    def test_thinking_on_and_off(self):
        on = self.client.chat(MODEL, QUESTION, think=True)
        self.assertTrue(on.message.thinking)
        off = self.client.chat(MODEL, QUESTION, think=False)
        self.assertIsNone(off.message.thinking)
        self.assertLess(off.eval_count, on.eval_count)
        # The counts and the fields as they are on the wire: off leaves no trace of a thought.
        body = {"model": MODEL, "messages": QUESTION, "stream": False}
        raw = httpx.post(url + "/api/chat", json={**body, "think": False}, timeout=60).json()
        self.assertNotIn("thinking", raw["message"])
        self.assertEqual(raw["thinking_tokens"], 0)
        self.assertGreater(raw["answer_tokens"], 0)
        raw = httpx.post(url + "/api/chat", json={**body, "think": True}, timeout=60).json()
        self.assertGreater(raw["thinking_tokens"], 0)
        self.assertLessEqual(raw["thinking_tokens"] + raw["answer_tokens"], raw["eval_count"])

    def test_list_show_ps(self):
        models = self.client.list().models
        self.assertIn(MODEL + ":latest", [m.model for m in models])
        tiny = next(m for m in models if m.model == MODEL + ":latest")
        self.assertEqual(tiny.details.quantization_level, "Q4_K_M")
        self.assertEqual(len(tiny.digest), 64)
        shown = self.client.show(MODEL)
        self.assertIn("thinking", shown.capabilities)
        self.assertEqual(shown.details.family, "qwen2")
        self.assertEqual(shown.modelinfo["general.architecture"], "qwen2")
        self.assertIn("think", shown.template)
        self.client.generate(MODEL, "")   # load
        running = self.client.ps().models
        self.assertEqual([m.model for m in running], [MODEL + ":latest"])
        self.assertGreater(running[0].size, 1 << 20)
        self.assertGreater(running[0].expires_at.timestamp(), time.time())
        self.client.generate(MODEL, "", keep_alive=0)   # unload
        deadline = time.time() + 5
        while self.client.ps().models and time.time() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.client.ps().models, [])

    def test_copy(self):
        self.assertEqual(self.client.copy(MODEL, "copied").status, "success")
        try:
            self.assertEqual(self.client.show("copied").details, self.client.show(MODEL).details)
            self.client.copy("copied", "copied:again")
            self.assertLess({"copied:latest", "copied:again"}, {m.model for m in self.client.list().models})
            with self.assertRaises(ollama.ResponseError) as caught:
                self.client.copy("copied", "not a name")
            self.assertEqual(caught.exception.status_code, 400)
        finally:
            for name in ("copied", "copied:again"):
                self.client.delete(name)

    def test_errors(self):
        for call in (lambda: self.client.chat("no-such-model", QUESTION), lambda: list(self.client.chat("no-such-model", QUESTION, stream=True)),
                     lambda: self.client.show("no-such-model"), lambda: self.client.delete("no-such-model"),
                     lambda: self.client.copy("no-such-model", "other")):
            with self.assertRaises(ollama.ResponseError) as caught:
                call()
            self.assertEqual(caught.exception.status_code, 404)
            self.assertIn("no-such-model", caught.exception.error)
        for field, value in (("format", "json"), ("options", {"temperature": "hot"})):
            with self.assertRaises(ollama.ResponseError) as caught:
                self.client.chat(MODEL, QUESTION, **{field: value})
            self.assertEqual(caught.exception.status_code, 400)
            self.assertIn("temperature" if field == "options" else field, caught.exception.error)
        tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}}
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.chat(MODEL, QUESTION, tools=[tool])
        self.assertIn("tools", caught.exception.error)
        with self.assertRaises(ollama.ResponseError):   # nobody listens on port 9
            self.client.pull("http://127.0.0.1:9/library/x", stream=False)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.pull("not a name")
        self.assertEqual(caught.exception.status_code, 400)
        long = [{"role": "user", "content": "word " * 5000}]
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.chat(MODEL, long)
        self.assertEqual(caught.exception.status_code, 400)
        self.assertIn("context", caught.exception.error)

    def test_built_in_models_need_no_pull(self):
        self.assertEqual(self.client.pull(MODEL).status, "success")

    def test_options(self):
        limited = self.client.chat(MODEL, QUESTION, options={"num_predict": 5})
        self.assertEqual((limited.eval_count, limited.done_reason), (5, "length"))
        text = lambda **options: self.client.chat(MODEL, QUESTION, options={"temperature": 1.6, "top_k": 0, "top_p": 1.0, "num_predict": 60, **options}).message
        self.assertEqual(text(seed=7), text(seed=7))
        self.assertGreater(len({text(seed=s).thinking for s in range(4)}), 1, "the seed changes nothing")
        stopped = self.client.chat(MODEL, QUESTION, think=False, options={"stop": ["4"]})
        self.assertNotIn("4", stopped.message.content)

    def test_logprobs(self):
        r = self.client.chat(MODEL, QUESTION, logprobs=True, top_logprobs=3)
        self.assertGreater(len(r.logprobs), 10)
        for entry in r.logprobs:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            self.assertLessEqual(entry.top_logprobs[1].logprob, entry.top_logprobs[0].logprob)
        # Greedy: the token that was taken is the most likely one.
        self.assertAlmostEqual(r.logprobs[0].logprob, r.logprobs[0].top_logprobs[0].logprob, places=5)

    def test_closing_a_stream_frees_the_server(self):
        request = {"model": MODEL, "messages": QUESTION, "options": endless(1800)}
        with httpx.stream("POST", url + "/api/chat", json=request, timeout=60) as r:
            lines = r.iter_lines()
            for _ in range(5):
                next(lines)
        start = time.time()
        deadline = start + 0.25
        busy = lambda: [m["running"] + m["waiting"] for m in httpx.get(url + "/api/ps").json()["models"]] != [0]
        while busy() and time.time() < deadline:
            time.sleep(0.01)
        self.assertFalse(busy(), "the chat still runs 250 ms after its stream was closed")
        self.client.chat(MODEL, QUESTION, options={"num_predict": 1})
        self.assertLess(time.time() - start, 2)

    def test_several_at_once_get_the_same_answers(self):
        import concurrent.futures
        questions = [f"What is {a} + {b}?" for a, b in ((11, 22), (9, 8), (100, 250), (31, 7))]
        ask = lambda q: self.client.chat(MODEL, [{"role": "user", "content": q}]).message
        alone = [ask(q) for q in questions]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(list(pool.map(ask, questions)), alone)


class OpenAI(unittest.TestCase):
    def setUp(self):
        self.client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)

    def test_chat(self):
        r = self.client.chat.completions.create(model=MODEL, messages=QUESTION)
        choice = r.choices[0]
        self.assertIn("42", choice.message.content)
        self.assertTrue(choice.message.reasoning_content)
        self.assertEqual(choice.message.reasoning_content, choice.message.reasoning)
        self.assertEqual(choice.finish_reason, "stop")
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
        self.assertGreater(r.usage.completion_tokens_details.reasoning_tokens, 0)
        off = self.client.chat.completions.create(model=MODEL, messages=QUESTION, reasoning_effort="none")
        self.assertFalse(hasattr(off.choices[0].message, "reasoning_content"))
        self.assertEqual(off.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_stream(self):
        whole = self.client.chat.completions.create(model=MODEL, messages=QUESTION)
        chunks = list(self.client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, whole.usage.model_copy(update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}))
        self.assertEqual(chunks[-2].choices[0].finish_reason, "stop")
        deltas = [c.choices[0].delta for c in chunks[:-1]]
        self.assertEqual(deltas[0].role, "assistant")
        self.assertEqual("".join(d.content or "" for d in deltas), whole.choices[0].message.content)
        self.assertEqual("".join(getattr(d, "reasoning_content", None) or "" for d in deltas), whole.choices[0].message.reasoning_content)
        self.assertTrue(all(c.usage is None for c in self.client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)))

    def test_parameters(self):
        limited = self.client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=5)
        self.assertEqual((limited.usage.completion_tokens, limited.choices[0].finish_reason), (5, "length"))
        limited = self.client.chat.completions.create(model=MODEL, messages=QUESTION, max_completion_tokens=6)
        self.assertEqual(limited.usage.completion_tokens, 6)
        draw = lambda s: self.client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=1.6, top_p=1, seed=s, max_tokens=60).choices[0].message
        self.assertEqual(draw(5), draw(5))
        r = self.client.chat.completions.create(model=MODEL, messages=QUESTION, logprobs=True, top_logprobs=2, max_tokens=8)
        self.assertEqual(len(r.choices[0].logprobs.content), 8)
        self.assertEqual(len(r.choices[0].logprobs.content[0].top_logprobs), 2)

    def test_models(self):
        self.assertIn(MODEL + ":latest", [m.id for m in self.client.models.list()])
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL + ":latest")

    def test_errors(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(model="no-such-model", messages=QUESTION)
        self.assertIn("no-such-model", caught.exception.message)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("no-such-model")
        for field, value in (("n", 2), ("temperature", -1), ("response_format", {"type": "json_object"}), ("reasoning_effort", "extreme"), ("max_tokens", 1.5)):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client.chat.completions.create(model=MODEL, messages=QUESTION, **{field: value})
            self.assertIn(field, caught.exception.message)
            self.assertEqual(caught.exception.type, "invalid_request_error")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model=MODEL, input="x")

    def test_closing_a_stream_frees_the_server(self):
        bias = {k: int(v) for k, v in endless(1)["logit_bias"].items()}
        stream = self.client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, logit_bias=bias, max_tokens=1800)
        for _, chunk in zip(range(5), stream):
            self.assertEqual(chunk.object, "chat.completion.chunk")
        stream.close()
        start = time.time()
        self.client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=1)
        self.assertLess(time.time() - start, 2)
        self.assertEqual([m["running"] for m in httpx.get(url + "/api/ps").json()["models"]], [0])


class Assistant(unittest.TestCase):
    """examples/assistant.py: what people write on top of the client."""

    script = os.path.join(here, "..", "..", "examples", "assistant.py")

    def run_script(self, *args, stdin="", host=None, **env):
        return subprocess.run([sys.executable, self.script, *args], input=stdin, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "OLLAMA_HOST": host or url, "NO_COLOR": "1", **env})

    def test_answers_and_shows_the_thought_apart(self):
        r = self.run_script("--model", MODEL, "What is 17 + 25?")
        self.assertEqual(r.returncode, 0, r.stderr)
        thought, answer = r.stdout.split("\n--- answer ---\n")
        self.assertTrue(thought.startswith("--- thinking ---\n") and len(thought) > 30, r.stdout)
        self.assertIn("42", answer)

    def test_no_server(self):
        r = self.run_script("--model", MODEL, "x", host="http://127.0.0.1:9")
        self.assertEqual(r.returncode, 1)
        self.assertIn("ponder serve", r.stderr)

    def test_missing_model_offers_to_pull(self):
        r = self.run_script("--model", "no-such-model", "x", stdin="n\n")
        self.assertEqual(r.returncode, 1)
        self.assertIn("Pull it? [y/N]", r.stdout)
        r = self.run_script("--model", "127.0.0.1:9/library/nothing", "x", stdin="y\n")
        self.assertEqual(r.returncode, 1)
        self.assertIn("127.0.0.1", r.stderr)

    def test_too_long(self):
        r = self.run_script("--model", MODEL, "word " * 5000)
        self.assertEqual(r.returncode, 1)
        self.assertIn("too long", r.stderr)
        self.assertIn("num_ctx", r.stderr)

    def test_interrupt(self):
        options = json.dumps(endless(1800))
        p = subprocess.Popen([sys.executable, self.script, "--model", MODEL, "--options", options, "Tell me everything."], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env={**os.environ, "OLLAMA_HOST": url, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"})
        p.stdout.read(40)   # it has begun
        p.send_signal(signal.SIGINT)
        start = time.time()
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 130, err)
        self.assertIn("stopped", err)
        self.assertNotIn("Traceback", err)
        self.assertLess(time.time() - start, 5)

    def test_is_short(self):
        with open(self.script) as f:
            self.assertLess(len(f.readlines()), 80)


if __name__ == "__main__":
    program = Program(sys.argv.pop(1))
    with program.serve() as url:
        result = unittest.main(verbosity=1, exit=False, warnings="ignore").result   # the clients leave sockets to the collector
    sys.exit(not result.wasSuccessful())
