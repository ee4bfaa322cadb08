"""with_server.py BINARY COMMAND...: runs COMMAND while `BINARY serve` is up; its address is in PONDER_TEST_URL."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from program import Program

program = Program(sys.argv[1])
with program.serve() as url:
    code = subprocess.call(sys.argv[2:], env={**os.environ, "PONDER_TEST_URL": url})
sys.exit(code)
