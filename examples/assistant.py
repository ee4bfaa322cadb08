#!/usr/bin/env python3
"""A small reasoning assistant over the official client: `pip install ollama`, `ponder serve`, then

    python3 assistant.py --model ponder-tiny "What is 17 + 25?"

Shows the thought apart from the answer as they arrive; without a question it keeps a conversation.
"""

import argparse
import json
import os
import sys

import httpx   # comes with ollama
import ollama

GREY, PLAIN = ("\033[90m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")


def answer(client, model, messages, options):
    """Prints the reply while it arrives and returns the answer without the thought."""
    content, thinking = "", False
    for part in client.chat(model, messages, options=options, stream=True):
        if part.message.thinking:
            print("" if thinking else GREY + "--- thinking ---\n", part.message.thinking, sep="", end="", flush=True)
            thinking = True
        if part.message.content:
            if thinking and not content:
                print(PLAIN + "\n--- answer ---")
            print(part.message.content, end="", flush=True)
            content += part.message.content
        if part.done and part.done_reason in ("length", "context"):
            print(f"\n(cut: {part.done_reason})", file=sys.stderr)
    print(PLAIN)
    return content


def pull(client, model):
    if input(f"The model {model} is not on this machine. Pull it? [y/N] ").strip().lower() != "y":
        return False
    for step in client.pull(model, stream=True):
        share = f" {100 * (step.completed or 0) // step.total} %" if step.total else ""
        print(f"\r{step.status}{share}        ", end="", flush=True)
    print()
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", nargs="?")
    parser.add_argument("--model", default="ponder-tiny")
    parser.add_argument("--options", type=json.loads, default={}, help='JSON, such as {"temperature": 0.6, "num_ctx": 8192}')
    args = parser.parse_args()
    client, messages = ollama.Client(), []
    while True:
        messages.append({"role": "user", "content": args.question or input(">>> ")})
        try:
            reply = answer(client, args.model, messages, args.options)
        except ollama.ResponseError as e:
            if e.status_code != 404:
                raise
            if not pull(client, args.model):
                return 1
            reply = answer(client, args.model, messages, args.options)
        messages.append({"role": "assistant", "content": reply})   # the thought stays out of the history
        if args.question:
            return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):
        print(PLAIN + "\nstopped", file=sys.stderr)   # closing the connection ends the work on the server
        sys.exit(130)
    except (ConnectionError, httpx.ConnectError):
        sys.exit("No server answers. Start one with: ponder serve")
    except ollama.ResponseError as e:
        sys.exit(f"The conversation is too long: {e.error}" if "num_ctx" in e.error else f"Error: {e.error}")
