// Small files for this folder's tests: a scratch folder, and a GGUF of a few hundred bytes that parses.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "base/os/system.h"
#include "gguf/writer.h"

namespace ponder::store::test {

/// A folder that is there for the duration of one test.
struct Scratch {
  std::string path =
      (std::filesystem::temp_directory_path() / ("ponder-store-" + std::to_string(os::random_u64()))).string();
  Scratch() { std::filesystem::create_directories(path); }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

inline void write(const std::string& path, std::string_view content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A model file with one tensor; different `seed`s give different content.
inline std::string small_gguf(uint32_t seed = 1) {
  Scratch scratch;
  const std::string path = scratch.path + "/m.gguf";
  gguf::Writer writer;
  const uint64_t shape[] = {64, 2};
  std::vector<uint8_t> data(64 * 2 * 4, uint8_t(seed));
  writer.add_string("general.architecture", "llama")
      .add_u32("general.file_type", 15)
      .add_u32("llama.context_length", 2048)
      .add_u32("llama.embedding_length", 64)
      .add_tensor("token_embd.weight", shape, 0, data.size());
  EXPECT_TRUE(writer.begin(path).ok());
  EXPECT_TRUE(writer.write_data(data).ok());
  EXPECT_TRUE(writer.finish().ok());
  return read(path);
}

/// One part of a split model, with one tensor of its own; its size in bytes. `no` counts from 0.
inline uint64_t write_part(const std::string& path, uint32_t no, uint32_t count) {
  gguf::Writer writer;
  const uint64_t shape[] = {64};
  const std::vector<uint8_t> data(256 * (no + 1), 0);
  const uint64_t wide[] = {64, no + 1};
  if (no == 0) writer.add_string("general.architecture", "llama").add_u32("llama.context_length", 2048);
  writer.add_u32("split.no", no).add_u32("split.count", count).add_i32("split.tensors.count", int32_t(count));
  writer.add_tensor("t" + std::to_string(no), no == 0 ? std::span<const uint64_t>(shape) : wide, 0, data.size());
  EXPECT_TRUE(writer.begin(path).ok());
  EXPECT_TRUE(writer.write_data(data).ok());
  EXPECT_TRUE(writer.finish().ok());
  return std::filesystem::file_size(path);
}

/// All files below a folder with their sizes, sorted: to see that nothing changed.
inline std::string listing(const std::string& folder) {
  std::map<std::string, uint64_t> files;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder))
    if (e.is_regular_file()) files[e.path().string()] = e.file_size();
  std::string text;
  for (const auto& [path, size] : files) text += path + " " + std::to_string(size) + "\n";
  return text;
}

}  // namespace ponder::store::test
