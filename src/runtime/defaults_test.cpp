// A model's own defaults: what a file may say, and what is told of it.
#include "runtime/defaults.h"

#include <gtest/gtest.h>

#include <limits>

#include <nlohmann/json.hpp>

#include "gguf/writer.h"

namespace ponder::runtime {
namespace {

struct Defaults {
  Options options;
  std::vector<std::string> notes;

  bool tells(const std::string& text) const {
    for (const auto& n : notes)
      if (n.find(text) != std::string::npos) return true;
    return false;
  }
};

Defaults read(gguf::Writer& writer, const std::string& params = {}) {
  writer.add_string("general.architecture", "qwen2");
  const auto bytes = std::make_shared<const std::string>(writer.header());  // shared with the file
  const auto file = gguf::File::parse({reinterpret_cast<const uint8_t*>(bytes->data()), bytes->size()}, bytes, "memory",
                                      {.metadata_only = true})
                        .value();
  Defaults d;
  d.options = model_defaults(*file, /*thinks=*/true, params, d.notes).value();
  (void)to_json(d.options);  // what `show` prints
  return d;
}

// A file is a stranger's: a number that no request may send is not taken from it either.
TEST(Defaults, NumbersOfAFileAreChecked) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {inf, -inf, nan, -1.f, 1e30f}) {
    for (const char* key : {"temp", "top_p", "min_p"}) {
      gguf::Writer writer;
      const auto d = read(writer.add_f32("general.sampling." + std::string(key), bad));
      EXPECT_EQ(d.options.temperature, 0.8f) << key << " " << bad;
      EXPECT_EQ(d.options.top_p, 0.9f) << key << " " << bad;
      EXPECT_EQ(d.options.min_p, 0.f) << key << " " << bad;
      EXPECT_TRUE(d.tells("general.sampling." + std::string(key))) << bad;
    }
  }
  gguf::Writer writer;
  const auto d = read(writer.add_f32("general.sampling.temp", 0.5f)
                          .add_f32("general.sampling.top_p", 0.7f)
                          .add_u32("general.sampling.top_k", 7));
  EXPECT_EQ(d.options.temperature, 0.5f);
  EXPECT_EQ(d.options.top_p, 0.7f);
  EXPECT_EQ(d.options.top_k, 7);
  EXPECT_TRUE(d.notes.empty());
}

TEST(Defaults, WhatIsSaidOfThePublishersValuesIsTrue) {
  gguf::Writer plain, cut;
  const auto published = read(plain.add_string("general.name", "DeepSeek-R1 Distill Qwen 7B"));
  EXPECT_EQ(published.options.temperature, 0.6f);
  EXPECT_TRUE(published.tells("temperature 0.6, top_p 0.95"));
  const auto by_file =
      read(cut.add_string("general.name", "DeepSeek-R1 Distill Qwen 7B").add_f32("general.sampling.temp", 0.5f));
  EXPECT_EQ(by_file.options.temperature, 0.5f);
  EXPECT_FALSE(by_file.tells("temperature 0.6"));
  EXPECT_TRUE(by_file.tells("a distill"));
  gguf::Writer layer;
  const auto by_params = read(layer.add_string("general.name", "Qwen3 8B"), R"({"top_k": 5, "temperature": 0.6})");
  EXPECT_EQ(by_params.options.top_k, 5);
  EXPECT_FALSE(by_params.tells("top_k 20"));
}

TEST(Defaults, OptionsOfTheModelThatHaveNoEffectAreTold) {
  gguf::Writer writer;
  const auto d = read(writer, R"({"mirostat": 2, "num_gpu": -1, "temperature": 0.3})");
  EXPECT_EQ(d.options.temperature, 0.3f);
  ASSERT_EQ(d.notes.size(), 1u);
  EXPECT_TRUE(d.tells("option \"mirostat\" has no effect"));
}

}  // namespace
}  // namespace ponder::runtime
