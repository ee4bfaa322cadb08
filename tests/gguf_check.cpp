// gguf_check FOLDER [--limited]: opens every malformed file that FOLDER/cases.txt lists (file, TAB,
// text) and expects an error that contains the text; good.gguf must open. --limited says that the
// caller has limited the address space to 256 MiB, and makes the check fail if that is not so. Run
// by ctest; the files come from cases/gguf-bad/make.py.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "gguf/gguf.h"

namespace fs = std::filesystem;

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: gguf_check FOLDER [--limited]\n");
    return 2;
  }
  const fs::path folder = argv[1];
  if (argc > 2 && std::string(argv[2]) == "--limited") {
    void* volatile p = std::malloc(size_t(300) << 20);
    if (p != nullptr) {
      std::fprintf(stderr, "the address space is not limited: run under `ulimit -v 262144`\n");
      std::free(p);
      return 1;
    }
  }
  int failures = 0;
  const auto fail = [&](const std::string& name, const std::string& why) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), why.c_str());
    ++failures;
  };
  if (auto good = ponder::gguf::File::open((folder / "good.gguf").string()); !good.ok()) {
    fail("good.gguf", "refused: " + good.error().message);
  }
  std::ifstream list(folder / "cases.txt");
  std::set<std::string> seen = {"good.gguf"};
  for (std::string line; std::getline(list, line);) {
    const size_t tab = line.find('\t');
    if (tab == line.npos) {
      fail("cases.txt", "no TAB in: " + line);
      continue;
    }
    const std::string name = line.substr(0, tab), expected = line.substr(tab + 1);
    seen.insert(name);
    const std::string path = (folder / name).string();
    auto file = ponder::gguf::File::open(path);
    if (file.ok()) {
      fail(name, "accepted, expected an error with: " + expected);
    } else if (file.error().message.rfind(path + ": ", 0) != 0) {
      fail(name, "the error does not begin with the file: " + file.error().message);
    } else if (file.error().message.find(expected, path.size()) == std::string::npos) {
      fail(name, "expected an error with: " + expected + "\n    but it is: " + file.error().message);
    }
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".gguf" && !seen.count(name)) fail(name, "not in cases.txt");
  }
  if (seen.size() < 41) fail("cases.txt", "only " + std::to_string(seen.size() - 1) + " cases");
  std::printf("%zu malformed files, %d failures\n", seen.size() - 1, failures);
  return failures == 0 ? 0 : 1;
}
