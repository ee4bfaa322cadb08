#!/usr/bin/env python3
"""Expected prompts of published chat templates, rendered by Jinja2 the way transformers does.

    tools/make-golden/templates.py            writes tests/golden/template/published.json
    tools/make-golden/templates.py --check    verifies every tests/cases/template/*.case against Jinja2

Needs jinja2 and gguf. Template sources are read from the cache of test models (tools/fetch-test-models) and are not kept
in the repository; results are kept as a hash, and as text for the templates named in KEEP_TEXT.
"""
import datetime
import glob
import json
import os
import re
import sys

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("PONDER_MODEL_CACHE") or os.path.expanduser("~/.cache/ponder-tests")
DATE = 1767323045  # 2026-01-02 03:04:05 UTC

KEEP_TEXT = re.compile(r"R1|Qwen3-0|QwQ|^Qwen-Qwen2|Llama-3.1|SmolLM|Mistral-Small|\.gguf")


class Generation(Extension):
    """transformers' {% generation %} block: rendered as it stands."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(lineno)

    def _render(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    # A deliberate difference: text joined to a |safe string is HTML-escaped by Jinja2 even with autoescape off. One
    # published template (functionary v3.1) trips over that and shows its tools as {&#34;name&#34;: ...; in ponder |safe
    # does nothing.
    env.filters["safe"] = str
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(DATE, datetime.timezone.utc).replace(tzinfo=None).strftime(f)
    return env


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city — now & \"soon\"",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city's name"},
            "days": {"type": "integer", "description": "How many days", "default": 1},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds numbers",
        "parameters": {"type": "object", "properties": {
            "values": {"type": "array", "items": {"type": "number"}, "description": "What to add"}},
            "required": ["values"]}}},
]
USER = {"role": "user", "content": "How warm is it in Köln?"}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2}}}]}
REPLY = {"role": "tool", "content": "{\"celsius\": 21.5}", "name": "get_weather", "tool_call_id": "call00001"}
ANSWER = {"role": "assistant", "content": "It is 21.5 °C.\nEnjoy!"}
THOUGHT = dict(ANSWER, reasoning_content="The tool said 21.5.\n\nSo I say that.")
MORE = {"role": "user", "content": "  And <b>tomorrow</b>?\n"}

SCENARIOS = {
    "single": {"messages": [USER]},
    "no_generation_prompt": {"messages": [USER, ANSWER], "add_generation_prompt": False},
    "system": {"messages": [{"role": "system", "content": "You are terse. 简短。"}, USER]},
    "history": {"messages": [USER, ANSWER, MORE]},
    "history_thought": {"messages": [USER, THOUGHT, MORE]},
    "history_thought_inline": {"messages": [
        USER, {"role": "assistant", "content": "<think>\nHm, I look it up.\n</think>\n\nIt is warm."}, MORE]},
    "thinking_on": {"messages": [USER], "enable_thinking": True},
    "thinking_off": {"messages": [USER, THOUGHT, MORE], "enable_thinking": False},
    "tools": {"messages": [USER], "tools": TOOLS},
    "tools_call": {"messages": [USER, CALL, REPLY, ANSWER, MORE], "tools": TOOLS},
    "tools_reply": {"messages": [
        {"role": "system", "content": "Use tools."}, USER,
        dict(CALL, reasoning_content="I need the weather."), REPLY], "tools": TOOLS},
    "tools_two_calls": {"messages": [
        USER, {"role": "assistant", "content": "Let me look.", "tool_calls": [
            CALL["tool_calls"][0],
            {"id": "call00002", "type": "function", "function": {"name": "add", "arguments": {"values": [1, 2.5, -3e20], "x": {"y": [True, None]}}}}]},
        REPLY, {"role": "tool", "content": "0.5", "name": "add", "tool_call_id": "call00002"}], "tools": TOOLS},
}


def fnv(text):
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return "%016x" % h


PROBE_TOOLS = [{"type": "function", "function": {"name": "zq_tool", "description": "d", "parameters": {
    "type": "object", "properties": {"a": {"type": "string", "description": "d"}}, "required": ["a"]}}}]


def forms(template, source):
    """How ponder hands a conversation to this template: see TemplateTraits in src/chat/template_input.h."""
    base = {"documents": None, "add_generation_prompt": True, "bos_token": "", "eos_token": ""}

    def tried(**values):
        try:
            return template.render(**base, **values)
        except Exception:
            return None

    user = {"role": "user", "content": "zq_question"}
    f = {"none": False, "text": False, "no_tools": {"tools": None}, "thinking": False}
    if tried(messages=[user], tools=None) is None and tried(messages=[user]) is not None:
        f["no_tools"] = {}
    found = False
    for text in (False, True):
        for none in (False, True):
            arguments = '{"a":"zq_value"}' if text else {"a": "zq_value"}
            call = {"role": "assistant", "content": None if none else "", "tool_calls": [
                {"id": "zqcall001", "type": "function", "function": {"name": "zq_called", "arguments": arguments}}]}
            reply = {"role": "tool", "content": "zq_reply", "name": "zq_called", "tool_call_id": "zqcall001"}
            shown = tried(messages=[user, call, reply], tools=PROBE_TOOLS) or ""
            if not found and "zq_called" in shown and "zq_value" in shown:
                found = True
                f["none"], f["text"] = none, text
    # The switch for thinking is called `thinking` by some, if they do not make that variable themselves.
    free = jinja2.meta.find_undeclared_variables(environment().parse(source))
    f["thinking"] = "thinking" in free and "enable_thinking" not in source and not re.search(r"set thinking\b", source)
    return f


def variables(scenario, f):
    v = {**f["no_tools"], "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}
    v.update(json.loads(json.dumps(scenario)))
    for message in v["messages"]:
        for call in message.get("tool_calls", []):
            if f["text"]:
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False, separators=(",", ":"))
        if message.get("tool_calls") and message["content"] == "" and f["none"]:
            message["content"] = None
    if "enable_thinking" in v and f["thinking"]:
        v["thinking"] = v["enable_thinking"]
    return v


def sources():
    for path in sorted(glob.glob(CACHE + "/llama.cpp-models/templates/*.jinja")):
        with open(path, newline="", encoding="utf-8") as f:
            yield os.path.basename(path), f.read()
    import gguf
    for name in ("qwen-0.5b.gguf", "smollm2.gguf"):
        field = gguf.GGUFReader(os.path.join(CACHE, name)).fields["tokenizer.chat_template"]
        yield name, bytes(field.parts[field.data[0]]).decode()
    # The head of a file: gguf's reader wants the tensors too, so only the key is looked for.
    data = open(os.path.join(CACHE, "r1-7b-head.gguf"), "rb").read(40 << 20)
    key = b"tokenizer.chat_template"
    at = data.index(key) + len(key) + 4
    size = int.from_bytes(data[at:at + 8], "little")
    yield "r1-7b-head.gguf", data[at + 8:at + 8 + size].decode()


def make():
    env = environment()
    results = {}
    for name, source in sources():
        try:
            template = env.from_string(source)
        except jinja2.exceptions.TemplateError as e:
            print("%s: Jinja2 itself refuses it: %s" % (name, e), file=sys.stderr)
            continue
        cases, f = {}, forms(template, source)
        for scenario, values in SCENARIOS.items():
            try:
                text = template.render(**variables(values, f))
            except Exception as e:  # the template refuses, or fails, in many ways
                cases[scenario] = {"error": "%s: %s" % (type(e).__name__, str(e)[:200])}
                continue
            cases[scenario] = {"text": text} if KEEP_TEXT.search(name) else {"fnv1a64": fnv(text), "bytes": len(text.encode())}
        results[name] = {"source": fnv(source), "cases": cases}
    path = os.path.join(ROOT, "tests/golden/template/published.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"made by": "tools/make-golden/templates.py, jinja2 " + jinja2.__version__, "date": DATE,
                   "scenarios": SCENARIOS, "results": results}, f, ensure_ascii=False, indent=1)
        f.write("\n")
    errors = sum("error" in c for r in results.values() for c in r["cases"].values())
    total = sum(len(r["cases"]) for r in results.values())
    print("%d templates, %d cases, %d of them errors, %d bytes" % (len(results), total, errors, os.path.getsize(path)))


def read_case(path):
    """Sections "=== name" ... of a case file: template, input (JSON), and one of expected, error."""
    sections, name = {}, None
    with open(path, encoding="utf-8", newline="") as f:
        for line in f:
            if line.startswith("=== "):
                name = line[4:].strip()
                sections[name] = ""
            elif name is not None:
                sections[name] += line
    # The newline before the next section belongs to the file, not to the text.
    return {k: v[:-1] if v.endswith("\n") else v for k, v in sections.items()}


def check():
    env = environment()
    bad = 0
    paths = sorted(glob.glob(ROOT + "/tests/cases/template/*.case"))
    for path in paths:
        case = read_case(path)
        if case.get("judge", "").strip() == "ponder":
            continue  # a limit or an extension of ours, which Jinja2 does not have
        try:
            got = env.from_string(case["template"]).render(**json.loads(case.get("input") or "{}"))
            error = None
        except Exception as e:
            got, error = None, "%s: %s" % (type(e).__name__, e)
        if "error" in case:
            ok = error is not None
        else:
            ok = got == case["expected"]
        if not ok:
            bad += 1
            print("%s:\n  got      %r %s\n  expected %r" % (os.path.basename(path), got, error or "", case.get("expected", "an error")))
    print("%d cases, %d wrong" % (len(paths), bad))
    return bad == 0


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if check() else 1)
    make()
