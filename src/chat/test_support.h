// Where the tests of this folder find templates, and how they compare prompts.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include "chat/chat.h"
#include "gguf/gguf.h"

namespace ponder::chat::test {

inline std::string cache_file(const std::string& name) {
  const char* folder = std::getenv("PONDER_MODEL_CACHE");
  const char* home = std::getenv("HOME");
  return (folder != nullptr && *folder != '\0' ? std::string(folder)
                                               : std::string(home != nullptr ? home : "") + "/.cache/ponder-tests") +
         "/" + name;
}

inline bool read_file(const std::string& path, std::string& out) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return false;
  out.assign(std::istreambuf_iterator<char>(in), {});
  return true;
}

/// The source of a published template: a .jinja file of the cache, or the key of a GGUF file there.
inline std::string template_source(const std::string& name) {
  std::string source;
  if (!name.ends_with(".gguf")) {
    if (!read_file(cache_file("llama.cpp-models/templates/" + name), source)) {
      ADD_FAILURE() << "the template " << name << " is missing: run `make test-models`";
    }
    return source;
  }
  const auto file = gguf::File::open(cache_file(name), {.metadata_only = true});
  if (!file) {
    ADD_FAILURE() << file.error().message << " (run `make test-models`)";
    return source;
  }
  const auto text = (*file)->get_string("tokenizer.chat_template");
  if (!text) {
    ADD_FAILURE() << name << " has no chat template";
    return source;
  }
  return std::string(*text);
}

inline std::string fnv1a64(std::string_view text) {
  uint64_t h = 0xCBF29CE484222325;
  for (const char c : text) h = (h ^ uint8_t(c)) * 0x100000001B3;
  std::string hex(16, '0');
  for (int i = 15; i >= 0; --i, h >>= 4) hex[size_t(i)] = "0123456789abcdef"[h & 15];
  return hex;
}

/// The sections "=== name" of a .case file.
inline std::map<std::string, std::string> read_case(const std::string& path) {
  std::map<std::string, std::string> sections;
  std::string text, name;
  if (!read_file(path, text)) ADD_FAILURE() << "cannot read " << path;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string line = text.substr(at, end - at);
    if (line.starts_with("=== ")) {
      name = line.substr(4, line.find_last_not_of(" \n") - 3);
      sections[name];
    } else if (!name.empty()) {
      sections[name] += line;
    }
    at = end;
  }
  for (auto& [key, value] : sections) {
    if (!value.empty() && value.back() == '\n') value.pop_back();
  }
  return sections;
}

}  // namespace ponder::chat::test
