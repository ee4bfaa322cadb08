"""The built program for tests: run a command, or serve on a free port, with nothing of the person's own around it."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import threading


class Program:
    def __init__(self, binary):
        self.binary = os.path.abspath(binary)
        self.home = tempfile.TemporaryDirectory(prefix="ponder-test-")
        keep = ("PATH", "LANG", "TMPDIR", "PONDER_ISA", "ASAN_OPTIONS", "TSAN_OPTIONS")
        self.env = {k: v for k, v in os.environ.items() if k in keep}
        # Port 9 is nobody's: a server of the person's own must not answer for the program under test.
        self.env.update(HOME=self.home.name, OLLAMA_HOST="127.0.0.1:9", PONDER_THREADS=os.environ.get("PONDER_TEST_THREADS", "2"), LC_ALL="C.UTF-8")

    def run(self, *args, stdin="", env=None, cwd=None, timeout=120):
        """CompletedProcess with text stdout and stderr; standard input is a pipe, as in a script."""
        return subprocess.run([self.binary, *args], input=stdin, capture_output=True, text=True, timeout=timeout,
                              env={**self.env, **(env or {})}, cwd=cwd or self.home.name)

    def start(self, *args, env=None, **more):
        return subprocess.Popen([self.binary, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**self.env, **(env or {})}, cwd=self.home.name, **more)

    @contextlib.contextmanager
    def serve(self, *args, env=None):
        """Yields the server's address; stops it with Ctrl-C's signal and expects exit code 0."""
        process = self.start("serve", "--host", "127.0.0.1:0", *args, env=env)
        self.server_pid = process.pid  # of the server started last
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"serves on (http://\S+)", line):
                    break
            else:
                raise AssertionError("the server did not start: " + "".join(said))
            # Its later words must not fill the pipe.
            threading.Thread(target=lambda: said.extend(process.stderr), daemon=True).start()
            yield found.group(1)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise AssertionError("the server did not stop within 20 s of SIGINT")
        assert code == 0, f"serve ended with {code}: {''.join(said)}"
