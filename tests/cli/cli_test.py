"""Every command of the program as a person or a script meets it. cli_test.py BINARY"""

import json
import math
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
import unittest
import urllib.request

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.join(here, "..", "..")
sys.path.insert(0, os.path.join(here, ".."))
from program import Program

MODEL = "ponder-tiny"
FILE = os.path.join(root, "models", "ponder-tiny-q4_k_m.gguf")
VOCABULARY = os.path.join(root, "tests", "golden", "tokenizer", "ponder-tiny-vocabulary.gguf")
QUESTION = "What is 17 + 25?"
EOS = "<｜end▁of▁sentence｜>"
program = None


class Case(unittest.TestCase):
    maxDiff = None

    def ok(self, *args, **more):
        r = program.run(*args, **more)
        self.assertEqual(r.returncode, 0, f"{args}: {r.stderr}")
        return r.stdout

    def fails(self, *args, code=1, saying=(), **more):
        r = program.run(*args, **more)
        self.assertEqual(r.returncode, code, f"{args}: {r.stdout} {r.stderr}")
        for text in (saying,) if isinstance(saying, str) else saying:
            self.assertIn(text, r.stderr, args)
        return r

    def write(self, name, text):
        path = os.path.join(program.home.name, name)
        with open(path, "w") as f:
            f.write(text)
        return path


class Run(Case):
    def test_in_a_pipe(self):
        r = program.run("run", MODEL, QUESTION)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stderr, "", "a script sees nothing on standard error")
        thought = re.fullmatch(r"Thinking\.\.\.\n(.+?)\n\.\.\.done thinking\.\n\n(.+)\n", r.stdout, re.S)
        self.assertTrue(thought, r.stdout)
        self.assertIn("42", thought[2])
        self.assertNotIn("\x1b", r.stdout)
        self.assertNotIn("think>", r.stdout)

    def test_hiding_is_not_switching_off(self):
        shown = self.ok("run", MODEL, QUESTION)
        answer = shown.split("...done thinking.\n\n")[1]
        self.assertEqual(self.ok("run", MODEL, "--hidethinking", QUESTION), answer)
        off = self.ok("run", MODEL, "--think=false", QUESTION)
        self.assertNotIn("Thinking", off)
        figures = lambda *flags: program.run("run", MODEL, *flags, "--verbose", QUESTION).stderr
        tokens = lambda text: int(re.search(r"thinking:\s+(\d+) token", text)[1])
        self.assertEqual(tokens(figures("--think=false")), 0)
        self.assertGreater(tokens(figures("--hidethinking")), 5)
        self.assertEqual(self.ok("run", MODEL, "--think=true", QUESTION), shown)
        self.assertEqual(self.ok("run", "--think", MODEL, QUESTION), shown)

    def test_standard_input_comes_first(self):
        whole = self.ok("run", MODEL, "What is\n\n17 + 25?")
        self.assertEqual(self.ok("run", MODEL, "17 + 25?", stdin="What is\n"), whole)
        self.assertEqual(self.ok("run", MODEL, stdin=QUESTION + "\n"), self.ok("run", MODEL, QUESTION))
        self.assertEqual(self.ok("run", MODEL, "What", "is", "17 + 25?"), self.ok("run", MODEL, QUESTION))
        self.fails("run", MODEL, saying="no prompt")

    def test_settings_of_the_environment(self):
        r = program.run("run", MODEL, QUESTION, env={"OLLAMA_KEEP_ALIVE": "soon", "OLLAMA_CONTEXT_LENGTH": "8k"})
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("42", r.stdout)
        for text in ("Warning", "OLLAMA_KEEP_ALIVE", '"soon"', "5m", "OLLAMA_CONTEXT_LENGTH", '"8k"'):
            self.assertIn(text, r.stderr)
        good = program.run("run", MODEL, QUESTION, env={"OLLAMA_KEEP_ALIVE": "10m", "OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_NUM_PARALLEL": "2"})
        self.assertEqual((good.returncode, good.stderr), (0, ""))
        unknown = {"OLLAMA_KV_CACHE_TYPE": "q4_0"}
        self.fails("run", MODEL, QUESTION, env=unknown, saying=("OLLAMA_KV_CACHE_TYPE", '"q4_0"', "f16, q8_0"))
        self.ok("run", MODEL, "--kv", "f16", QUESTION, env=unknown)

    def test_system_message(self):
        count = lambda *flags: int(re.search(r"prompt eval count:\s+(\d+)", program.run("run", MODEL, *flags, "--verbose", QUESTION).stderr)[1])
        self.assertGreater(count("--system", "Be brief."), count())

    def test_sampling_flags(self):
        short = self.fails_not("run", MODEL, "--num-predict", "5", "--verbose", QUESTION)
        self.assertRegex(short.stderr, r"(?m)^eval count:\s+5 token")
        self.assertRegex(short.stderr, r"ended by:\s+length")
        self.assertIn("num_predict was reached", short.stderr)
        draw = lambda seed: self.ok("run", MODEL, "--temperature", "1.6", "--top-k=0", "--top-p", "1", "--num-predict=50", "--seed", seed, QUESTION)
        self.assertEqual(draw("3"), draw("3"))
        self.assertGreater(len({draw(str(s)) for s in range(4)}), 1)
        stopped = self.ok("run", MODEL, "--stop", "The answer", "--stop=digit", QUESTION)   # of the answer; a thought may say anything
        self.assertTrue(stopped.endswith("17 + 25 = 42. \n"), stopped)
        self.assertIn("digit by digit", stopped)
        for flag in ("--min-p=0.1", "--repeat-penalty=1.1", "--repeat-last-n=32", "--presence-penalty=0.1", "--frequency-penalty=0.1", "--num-ctx=512"):
            self.ok("run", MODEL, flag, "--num-predict=2", QUESTION)

    def fails_not(self, *args, **more):
        r = program.run(*args, **more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r

    def test_wrong_flags(self):
        for args, saying in (
            (("run", MODEL, "--temprature", "1", QUESTION), "--temprature"),
            (("run", MODEL, "--temperature", "hot", QUESTION), ("temperature", "hot")),
            (("run", MODEL, "--temperature", "-1", QUESTION), ("temperature", "must be between 0")),
            (("run", MODEL, "--top-k", "1.5", QUESTION), ("top_k", "whole number, not 1.5")),
            (("run", MODEL, "--think=hot", QUESTION), ("think", "hot")),
            (("run", MODEL, "--backend", "tpu", QUESTION), ("--backend", "reference")),
            (("run", MODEL, "--threads", "0", QUESTION), "--threads"),
            (("run", MODEL, "--keepalive", "soon", QUESTION), "keep_alive"),
            (("run",), "model is required"),
            (("frobnicate",), ""),
            ((), "subcommand"),
            (("perplexity", MODEL), "--ids"),
            (("tokenize",), "model is required"),
        ):
            r = self.fails(*args, saying=saying)
            self.assertLess(len(r.stderr.splitlines()), 6, "a slip is not answered with a page")

    def test_a_card_that_is_demanded_is_used_or_the_reason_given(self):
        # Whatever machine this is: an answer, or one sentence about CUDA, driver or card; never a crash, never silence.
        r = program.run("run", MODEL, "--backend", "cuda", QUESTION)
        if r.returncode != 0:
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertRegex(r.stderr, "built without CUDA|NVIDIA")
            self.assertEqual(len(r.stderr.strip().splitlines()), 1, r.stderr)
        # Left to itself the program computes on what there is, and says nothing of a card that is not there.
        self.assertNotIn("NVIDIA", self.fails_not("run", MODEL, QUESTION).stderr)
        self.fails("run", MODEL, "--gpu-layers", "some", QUESTION, saying=("--gpu-layers", "some"), code=1)
        self.fails("run", MODEL, "--gpu-memory", "much", QUESTION, saying="--gpu-memory", code=1)

    def test_models_that_are_not_there(self):
        self.fails("run", "./no-such-file.gguf", "x", saying=("no-such-file.gguf", "No such file"))
        self.fails("run", "127.0.0.1:9/library/nothing", "x", saying="127.0.0.1")
        self.fails("run", "a/../b", "x", saying="invalid model name")
        bad = self.write("bad.gguf", "GGUF" + "\xff" * 100)
        self.fails("run", bad, "x", saying="bad.gguf")
        self.fails("run", MODEL, "word " * 4000, saying=("tokens", "num_ctx"))

    def test_a_file_runs_in_place(self):
        self.assertEqual(self.ok("run", FILE, "--temperature", "0", QUESTION), self.ok("run", MODEL, QUESTION))
        self.assertNotIn("q4_k_m", self.ok("list"))

    def test_backends_and_threads_agree(self):
        one = self.ok("run", MODEL, "--threads", "1", QUESTION)
        self.assertEqual(self.ok("run", MODEL, "--threads", "2", QUESTION), one)
        # The reference computes every weight in float32 from the file, so a few tokens must do.
        few = self.ok("run", MODEL, "--num-predict", "4", QUESTION)
        self.assertEqual(self.ok("run", MODEL, "--backend", "reference", "--num-predict", "4", QUESTION, timeout=300), few)
        self.assertIn("42", self.ok("run", MODEL, "--precision", "exact", "--kv", "f32", QUESTION))

    def test_interrupt(self):
        p = program.start("run", MODEL, "--backend", "reference", QUESTION)   # slow enough to be interrupted
        begun = p.stdout.read(12)
        self.assertEqual(begun, "Thinking...\n")
        p.send_signal(signal.SIGINT)
        start = time.time()
        out, err = p.communicate(timeout=20)
        self.assertLess(time.time() - start, 2)
        self.assertEqual(p.returncode, 130, err)
        self.assertTrue(out.endswith("\n"), "the shell's prompt starts on a line of its own")

    def test_speed_line(self):
        line = self.fails_not("run", MODEL, "--speed", QUESTION).stderr.strip()
        self.assertRegex(line, r"thought \d+, answered \d+ tokens · first token after \S+ · [\d.]+ tokens/s")


class Keys(Case):
    """A terminal of its own (pty), and keys pressed while the model thinks."""

    LONG = '{"extend": 8, "loop": "off"}'   # its own end is answered with "Wait" eight times

    def talk(self, keys, think=LONG, question="What is 48213 × 7368?"):
        """Presses `keys` one after the other once it thinks; returns what stood on the screen and the exit code."""
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(program.home.name)
            os.execve(program.binary, [program.binary, "run", "--verbose", "--think=" + think, MODEL, question], program.env)
        screen, pressed, deadline = b"", 0, time.time() + 120
        while time.time() < deadline:
            ready, _, _ = select.select([fd], [], [], 0.1)
            if ready:
                try:
                    piece = os.read(fd, 4096)
                except OSError:   # the other end is closed
                    piece = b""
                if not piece:
                    break
                screen += piece
            if pressed < len(keys) and b"Thinking..." in screen and len(screen) > screen.index(b"Thinking...") + 100 * (1 + pressed):
                os.write(fd, keys[pressed].encode())
                pressed += 1
        os.close(fd)
        _, status = os.waitpid(pid, 0)
        text = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", screen.decode(errors="replace")).replace("\r", "")
        return text, os.waitstatus_to_exitcode(status)

    def test_answer_now(self):
        screen, code = self.talk("a")
        self.assertEqual(code, 0, screen)
        self.assertIn("a: answer now", screen)
        self.assertIn("I should stop thinking now and answer.", screen)
        self.assertIn("ended by you", screen)
        self.assertIn("boxed", screen)

    def test_note(self):
        screen, code = self.talk(["n", "use the digits\n"])
        self.assertEqual(code, 0, screen)
        self.assertIn("note> use the digits", screen)
        self.assertIn("The user adds: use the digits", screen)

    def test_more(self):
        screen, code = self.talk("m", think='{"tokens": 120, "close": "hard"}')
        self.assertEqual(code, 0, screen)
        thought = int(re.search(r"thinking: +(\d+)", screen).group(1))
        self.assertGreater(thought, 140, screen)   # 180 and the closing

    def test_escape(self):
        screen, code = self.talk("\x1b")
        self.assertEqual(code, 130, screen)
        self.assertIn("cancelled", screen)

    def test_the_terminal_is_put_back(self):
        a, b = pty.openpty()
        before = termios.tcgetattr(b)
        subprocess.run([program.binary, "run", MODEL, QUESTION], stdin=b, stdout=b, stderr=b, env=program.env, timeout=120)
        self.assertEqual(termios.tcgetattr(b), before)
        os.close(a), os.close(b)


class Store(Case):
    def tearDown(self):
        for name in ("mine", "copy"):
            program.run("rm", name)

    def test_list_and_show(self):
        lines = self.ok("list").splitlines()
        self.assertEqual(lines[0].split(), ["NAME", "ID", "SIZE", "MODIFIED"])
        self.assertRegex(lines[1], r"^ponder-tiny:latest +[0-9a-f]{12} +18 MB +built in$")
        self.assertEqual(self.ok("ls"), self.ok("list"))
        self.assertEqual(len(self.ok("list", "zzz").splitlines()), 1)
        models = json.loads(self.ok("list", "--json"))
        self.assertEqual(models[0]["name"], MODEL + ":latest")
        shown = self.ok("show", MODEL)
        for text in ("architecture", "qwen2", "Q4_K_M", "thinking", "temperature", "MIT"):
            self.assertIn(text, shown)
        o = json.loads(self.ok("show", MODEL, "--json"))
        self.assertEqual(o["details"]["family"], "qwen2")
        self.assertIn("tensors", json.loads(self.ok("show", MODEL, "--json", "--verbose")))
        self.assertIn("blk.0.attn_q.weight", self.ok("show", MODEL, "--verbose"))
        self.assertIn("<think>", self.ok("show", MODEL, "--template"))
        self.assertIn("temperature", self.ok("show", MODEL, "--parameters"))
        self.assertIn("FROM", self.ok("show", MODEL, "--modelfile"))
        self.fails("show", "nothing", saying=("nothing", "not found", "pull"))

    def test_create_by_reference(self):
        path = os.path.join(program.home.name, "mine.gguf")
        shutil.copy(FILE, path)
        self.assertIn("nothing was copied", self.ok("create", "mine", "--from", path))
        stored = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(program.home.name, ".ponder")) for f in files)
        self.assertLess(stored, 1 << 20, "the weights were copied")
        self.assertIn("mine:latest", self.ok("list"))
        self.assertIn("42", self.ok("run", "mine", "--temperature", "0", QUESTION))
        self.assertIn(path, self.ok("show", "mine", "--modelfile"))
        with open(path, "ab") as f:   # not the file that was named
            f.write(b"more")
        self.fails("run", "mine", QUESTION, saying=("mine.gguf", "chang"))
        self.ok("create", "mine", "--from", path)
        os.unlink(path)
        self.fails("run", "mine", QUESTION, saying="mine.gguf")
        self.assertEqual(self.ok("rm", "mine"), "deleted 'mine'\n")
        self.fails("rm", "mine", saying="mine")
        self.fails("create", "mine", "--from", path, saying="mine.gguf")
        self.fails("create", "bad name", "--from", FILE, saying="name")

    def test_names_that_are_not_utf8(self):
        path = os.path.join(program.home.name, "caf\udce9.gguf")
        os.symlink(FILE, path)
        self.assertIn("caf\ufffd.gguf", json.loads(self.ok("show", path, "--json"))["modelfile"])
        os.unlink(path)

    def test_create_from_a_model(self):
        self.ok("create", "copy", "--from", MODEL)
        self.assertEqual(self.ok("run", "copy", QUESTION), self.ok("run", MODEL, QUESTION))
        self.assertEqual(self.ok("rm", "copy"), "deleted 'copy'\n")

    def test_copy(self):
        self.assertEqual(self.ok("cp", MODEL, "copy"), f"copied '{MODEL}' to 'copy'\n")
        self.assertEqual(self.ok("run", "copy", QUESTION), self.ok("run", MODEL, QUESTION))
        self.ok("cp", "copy", "mine")
        self.ok("rm", "copy")
        self.assertIn("42", self.ok("run", "mine", QUESTION))
        self.fails("cp", "nothing", "mine", saying=("nothing", "not found"))
        self.fails("cp", "mine", "not a name", saying="name")
        self.fails("cp", "mine", MODEL, saying="built into")
        self.fails("cp", "mine", saying="target")

    def test_removing_and_pulling_errors(self):
        self.fails("rm", MODEL, saying="built into")
        self.fails("rm", "nothing", saying="nothing")
        self.fails("pull", "127.0.0.1:9/library/nothing", saying="127.0.0.1")
        self.fails("pull", "not a name", saying="name")
        self.ok("pull", MODEL)

    def test_nothing_runs_without_a_server(self):
        self.assertEqual(self.ok("ps").split(), ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"])
        self.assertEqual(json.loads(self.ok("ps", "--json")), [])
        self.fails("stop", MODEL, saying="no server")


class Tools(Case):
    def test_tokenize(self):
        ids = lambda *args, **more: json.loads(self.ok("tokenize", *args, **more))
        self.assertEqual(ids(MODEL, "Hi <think> 17"), [1, 2003, 227, 4, 227, 23, 29])
        self.assertEqual(ids("--no-special", MODEL, EOS)[:1] == [0], False, "text, not the token")
        self.assertEqual(ids(MODEL, EOS), [1, 0])
        self.assertEqual(ids("--no-special", MODEL, "Hi"), [2003])
        self.assertEqual(ids(MODEL, "-", stdin="Hi"), [1, 2003])
        self.assertEqual(ids(MODEL, stdin="Hi"), [1, 2003])
        self.assertEqual(ids(VOCABULARY, "Hi"), [1, 2003])
        self.assertEqual(ids("--no-special", MODEL, ""), [])
        self.fails("tokenize", "nothing", "x", saying="nothing")

    def test_render(self):
        messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "<think>x</think>Yo"}, {"role": "user", "content": "Again"}]
        file = self.write("messages.json", json.dumps(messages))
        prompt = self.ok("render", MODEL, "--messages", file)
        self.assertEqual(prompt, "<｜begin▁of▁sentence｜>S<｜User｜>Hi<｜Assistant｜>Yo" + EOS + "<｜User｜>Again<｜Assistant｜><think>\n")
        self.assertEqual(self.ok("render", FILE, "--messages", file), prompt)
        self.assertEqual(self.ok("render", MODEL, "--messages", self.write("object.json", json.dumps({"messages": messages}))), prompt)
        short = self.ok("render", MODEL, "--messages", file, "--var", "add_generation_prompt=false")
        self.assertEqual(short + "<｜Assistant｜><think>\n", prompt)
        template = self.write("t.jinja", '{{ strftime_now("%d %b %Y") }}|{{ name }}|{{ n + 1 }}|{{ tools | tojson }}|{{ bos_token }}')
        tools = self.write("tools.json", '[{"type": "function", "function": {"name": "f", "a": 1}}]')
        self.assertEqual(self.ok("render", template, "--messages", file, "--tools", tools, "--var", "name=Ann", "--var", "n=4", "--var", "bos_token=<s>",
                                 "--date", "2024-02-29"),
                         '29 Feb 2024|Ann|5|[{"type": "function", "function": {"name": "f", "a": 1}}]|<s>')
        self.fails("render", template, "--messages", file, "--date", "yesterday", saying=("--date", "yesterday"))
        self.fails("render", template, "--messages", file, "--var", "novalue", saying="NAME=VALUE")
        self.fails("render", template, "--messages", "missing.json", saying="missing.json")
        self.fails("render", template, "--messages", self.write("bad.json", "[{]"), saying="bad.json")
        self.fails("render", MODEL, "--messages", self.write("role.json", '[{"content": "x"}]'), saying="role")
        self.fails("render", self.write("broken.jinja", "{% if %}"), "--messages", file, saying=("broken.jinja", "line 1"))

    def test_perplexity(self):
        text = self.write("text.txt", "What is 2 + 2? The answer is 4. " * 20)
        o = json.loads(self.ok("perplexity", MODEL, text, "--json", "--top", "3", "--window", "64"))
        positions = o["positions"]
        ids = json.loads(self.ok("tokenize", MODEL, "--no-special", "-", stdin="What is 2 + 2? The answer is 4. " * 20))
        with_bos = [p["token"] for p in positions]
        self.assertIn(ids, (with_bos, with_bos[1:]))
        known = [p["logprob"] for p in positions if p["logprob"] is not None]
        self.assertEqual([i for i, p in enumerate(positions) if p["logprob"] is None], list(range(0, len(positions), 64)), "a window's first")
        self.assertAlmostEqual(o["perplexity"], math.exp(-sum(known) / len(known)), delta=1e-6 * o["perplexity"])
        for p, following in zip(positions, positions[1:]):
            self.assertEqual(len(p["top_logprobs"]), 3)
            values = [v for _, v in p["top_logprobs"]]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLess(values[0], 0)
            by_id = dict(map(tuple, p["top_logprobs"]))
            if following["token"] in by_id and following["logprob"] is not None:
                self.assertAlmostEqual(following["logprob"], by_id[following["token"]], places=9)
        # The same ids by another way, and another backend: close, not equal.
        again = json.loads(self.ok("perplexity", MODEL, "--ids", self.write("ids.json", json.dumps(with_bos)), "--json", "--window", "64"))
        self.assertEqual(again["perplexity"], o["perplexity"])
        self.assertTrue(all(p["top_logprobs"] == [] for p in again["positions"]))
        exact = json.loads(self.ok("perplexity", MODEL, text, "--json", "--window", "64", "--precision", "exact", "--kv", "f32"))
        self.assertAlmostEqual(exact["perplexity"], o["perplexity"], delta=0.02 * o["perplexity"])
        self.assertRegex(self.ok("perplexity", MODEL, text), r"^perplexity [\d.]+ over \d+ tokens")
        self.fails("perplexity", MODEL, "--ids", self.write("high.json", "[1, 99999]"), saying=("entry 1", "99999"))
        self.fails("perplexity", MODEL, "--ids", self.write("one.json", "[1]"), saying="two tokens")
        self.fails("perplexity", MODEL, "missing.txt", saying="missing.txt")

    def test_bench(self):
        o = json.loads(self.ok("bench", MODEL, "--json", "-p", "32", "-n", "8", "--repeat", "2"))
        for key, kind in (("model", str), ("device", str), ("isa", str), ("numerics_id", str), ("kv_format", str), ("read_gb_per_second", float),
                          ("int8_gmac_per_second", float), ("load_seconds", float), ("repeat", int)):
            self.assertIsInstance(o[key], kind, key)
        self.assertEqual([r["test"] for r in o["results"]], ["pp32", "tg8"])
        for r in o["results"]:
            self.assertGreater(r["tokens_per_second"], 0)
            self.assertLessEqual(r["slowest"], r["tokens_per_second"])
            self.assertLessEqual(r["tokens_per_second"], r["fastest"])
            self.assertGreater(r["fraction_of_limit"], 0)   # this model fits in a cache, so it may beat the memory
            self.assertEqual((r["batch"], r["depth"], r["precision"]), (1, 0, "standard"))
            self.assertGreater(r["host_cores"], 0)
            self.assertTrue(r["joules_per_token"] is None or r["joules_per_token"] >= 0)
        first, step = o["results"][0]["first_token_ms"], o["results"][1]["step_ms"]
        self.assertAlmostEqual(first * o["results"][0]["tokens_per_second"], 32e3, delta=16e3)
        self.assertAlmostEqual(step * o["results"][1]["tokens_per_second"], 1e3, delta=1)
        self.assertGreater(o["memory"]["weights"], 5e6)
        self.assertGreaterEqual(o["memory"]["resident_peak"], o["memory"]["resident"])
        self.assertIsNone(o["memory"]["cards"])     # this model is too small for a card
        many = json.loads(self.ok("bench", MODEL, "--json", "-p", "0", "-n", "4", "-b", "2,3", "-d", "0,70", "-r", "1", "--sampled"))
        self.assertEqual([(r["depth"], r["batch"]) for r in many["results"]], [(0, 2), (0, 3), (70, 2), (70, 3)])
        table = self.ok("bench", MODEL, "-p", "16", "-n", "4", "--repeat", "1")
        self.assertRegex(table, r"(?m)^\| tg4 \| 0 \| 1 \| [\d.]+ \([\d.]+ - [\d.]+\) \| \d+ % of [\d.]+ GB/s \| [\d.]+ ms \| [\d.]+ \| ")
        self.assertRegex(table, r"memory: weights \d+ MB, work space \d+ MB, KV [\d.]+ KB per token; process \d+ MB now, \d+ MB at most")

    def test_help_and_version(self):
        self.assertRegex(self.ok("--version"), r"^ponder version is \d+\.\d+\.\d+\n$")
        listed = self.ok("--help")
        for command in ("run", "serve", "pull", "create", "list", "show", "cp", "rm", "ps", "stop", "tokenize", "render", "perplexity", "bench"):
            self.assertRegex(listed, rf"(?m)^ +{command}\b")
            shown = self.ok(command, "--help")
            self.assertIn("--help", shown)
            self.assertNotRegex(shown, r"(?m)^ +\S.* +$", "an argument without a description")
            self.assertNotIn("{true}", shown)
            self.assertNotIn("{false}", shown)


class Serve(Case):
    def test_run_uses_the_server(self):
        with program.serve() as url:
            env = {"OLLAMA_HOST": url}
            local = self.ok("run", MODEL, QUESTION)
            self.assertEqual(self.ok("run", MODEL, QUESTION, env=env), local)
            table = self.ok("ps", env=env).splitlines()
            self.assertRegex(table[1], r"^ponder-tiny:latest +[0-9a-f]{12} +\d+ MB +100% CPU +\d+ +\d+ (minutes?|seconds?) from now$")
            self.ok("stop", MODEL, env=env)
            deadline = time.time() + 5
            while len(self.ok("ps", env=env).splitlines()) > 1 and time.time() < deadline:
                time.sleep(0.05)
            # A choice of backend or threads is made here, not by the server; a file is run here too.
            for flags in (["--threads", "1"], ["--backend", "cpu"], ["--precision", "exact"]):
                self.assertIn("42", self.ok("run", MODEL, *flags, QUESTION, env=env))
            self.assertIn("42", self.ok("run", FILE, "--temperature", "0", QUESTION, env=env))
            self.assertEqual(json.loads(self.ok("ps", "--json", env=env)), [])
            self.fails("run", MODEL, "word " * 4000, env=env, saying=("tokens", "num_ctx"))
            self.fails("run", "127.0.0.1:9/library/nothing", "x", env=env, saying="127.0.0.1")
            self.fails("run", MODEL, "--temperature", "-1", "x", env=env, saying="temperature")
            self.ok("create", "copy", "--from", MODEL, env=env)
            self.assertIn("42", self.ok("run", "copy", QUESTION, env=env))
            self.assertEqual(self.ok("rm", "copy", env=env), "deleted 'copy'\n")

    def test_interrupting_a_run_frees_its_server(self):
        with program.serve("--backend", "reference") as url:   # slow enough to be interrupted
            p = program.start("run", MODEL, QUESTION, env={"OLLAMA_HOST": url})
            self.assertEqual(p.stdout.read(12), "Thinking...\n")
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=20)
            self.assertEqual(p.returncode, 130, err)
            start = time.time()
            busy = lambda: any(m["running"] for m in json.load(urllib.request.urlopen(url + "/api/ps"))["models"])
            while busy() and time.time() < start + 2:
                time.sleep(0.01)
            self.assertLess(time.time() - start, 1, "the server goes on after Ctrl-C of its client")

    def test_signals_of_a_service(self):
        p = program.start("serve", "--host", "127.0.0.1:0")
        url = re.search(r"http://\S+", p.stderr.readline())[0]
        p.send_signal(signal.SIGPIPE)   # its log's reader is gone
        time.sleep(0.1)
        self.assertEqual(json.load(urllib.request.urlopen(url + "/api/version", timeout=20))["server"], "ponder")
        p.send_signal(signal.SIGTERM)
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 0, err)

    def test_a_taken_port(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            self.fails("serve", "--host", f"127.0.0.1:{port}", saying=(str(port), "taken", "OLLAMA_HOST"))
            # Another program's port does not stop a run; ps says whose it is.
            # (It accepts and never answers, as a hung program would.)
            self.assertIn("42", self.ok("run", MODEL, QUESTION, env={"OLLAMA_HOST": f"127.0.0.1:{port}"}))

    def test_refused_addresses(self):
        self.fails("serve", "--host", "0.0.0.0:0", saying=("loopback", "API keys"))
        self.fails("serve", "--host", "127.0.0.1:99999", saying="port")
        self.fails("serve", "--host", "https://127.0.0.1", saying="http://")


if __name__ == "__main__":
    program = Program(sys.argv.pop(1))
    unittest.main(verbosity=1, warnings="ignore")
