"""check-includes finds what it is there to find: one made-up violation of each kind, and none in a clean tree."""
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "check-includes")


def check(files):
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        run = subprocess.run([sys.executable, TOOL, root], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout


class CheckIncludes(unittest.TestCase):
    def passes(self, files):
        self.assertEqual(check(files)[0], 0, check(files)[1])

    def fails(self, files, message):
        code, output = check(files)
        self.assertEqual(code, 1)
        self.assertIn(message, output)

    def test_clean(self):
        self.passes({"src/engine/a.cpp": '#include "base/result.h"\n#include "backend/kv/pages.h"\n#include <vector>\n',
                     "src/base/os/b.cpp": "#include <sys/mman.h>\n",
                     "src/server/c.cpp": "#include <boost/asio/post.hpp>\n",
                     "src/engine/a_test.cpp": '#include "backend/scripted/scripted.h"\n#include <gtest/gtest.h>\n'})

    def test_folder_not_in_its_line(self):
        self.fails({"src/gguf/a.cpp": '#include "model/model.h"\n'}, "gguf may not include")
        self.fails({"src/engine/a.cpp": '#include "backend/scripted/scripted.h"\n'}, "engine may not include")
        self.fails({"src/engine/a.cpp": '#include "backend/cpu/cpu.h"\n'}, "engine may not include")
        self.fails({"src/server/a_test.cpp": '#include "cli/repl.h"\n'}, "server may not include")

    def test_unknown_folder_and_missing_folder(self):
        self.fails({"src/novel/a.cpp": "\n"}, "has no line")
        self.fails({"src/base/a.cpp": '#include "b.h"\n'}, "write the folder too")

    def test_only_the_standard_library(self):
        self.fails({"src/sample/a.h": "#include <fmt/format.h>\n"}, "not of the C++ standard library")
        self.fails({"src/backend/cpu/a.cpp": "#include <unistd.h>\n"}, "not of the C++ standard library")
        self.fails({"src/sample/a.cpp": "#include <gtest/gtest.h>\n"}, "not of the C++ standard library")

    def test_test_headers_stay_in_tests(self):
        self.fails({"src/engine/a.cpp": '#include "engine/engine_rig.h"\n'}, "for tests only")

    def test_length(self):
        self.fails({"src/base/a.cpp": "\n" * 501}, "why this file is long")
        self.passes({"src/base/a.cpp": "// Why this file is long: a table.\n" + "\n" * 900})
        self.fails({"tools/x/a.cpp": "// Why this file is long: a table.\n" + "\n" * 1000}, "split it")

    def test_no_sources(self):
        self.fails({"README": ""}, "no sources")


if __name__ == "__main__":
    unittest.main()
