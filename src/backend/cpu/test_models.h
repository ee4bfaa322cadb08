// Small synthetic models for the tests of this folder: grouped heads, odd tails, heads of 64, 96 and 128, biases, pairs
// RoPE, q/k norms, a tied head, float weights. At most 1.3 million weights each.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/os/system.h"
#include "model/model.h"
#include "synth/synth.h"

namespace ponder::backend::cpu {

struct Named {
  const char* name;
  std::shared_ptr<const model::Model> model;
};

inline std::shared_ptr<const model::Model> make_model(const char* name, const synth::Options& o) {
  const auto path = (std::filesystem::temp_directory_path() /
                     ("ponder-same-" + std::string(name) + std::to_string(os::random_u64()) + ".gguf"))
                        .string();
  const auto written = synth::write_model(o, path);
  EXPECT_TRUE(written.ok()) << (written.ok() ? "" : written.error().message);
  auto file = gguf::File::open(path);
  std::filesystem::remove(path);
  if (!file.ok()) return nullptr;
  auto model = model::Model::load(*file);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  return model.ok() ? *model : nullptr;
}

inline const std::vector<Named>& models() {
  static const std::vector<Named> all = [] {
    std::vector<Named> v;
    synth::Options o;
    o.shape.layers = 2;
    o.shape.hidden = 256;
    o.shape.ffn = 512;
    o.shape.heads = 4;
    o.shape.kv_heads = 2;
    o.shape.vocab = 520;
    o.type = "Q4_K_M";
    v.push_back({"qwen2-bias-q4_k_m", make_model("qwen2", o)});
    o.shape.ffn = 256;
    o.shape.heads = 3;
    o.shape.kv_heads = 1;
    o.shape.head_dim = 128;
    EXPECT_TRUE(synth::set_architecture(o.shape, "qwen3").ok());
    o.shape.vocab = 539;
    o.type = "Q5_K_M";
    v.push_back({"qwen3-norms-q5_k_m", make_model("qwen3", o)});
    o.shape.hidden = 288;  // 256 + 32: a short last group
    o.shape.ffn = 352;
    o.shape.heads = 3;
    o.shape.kv_heads = 3;
    o.shape.head_dim = 96;
    o.shape.tied = true;
    EXPECT_TRUE(synth::set_architecture(o.shape, "llama").ok());
    o.type = "Q8_0";
    v.push_back({"llama-pairs-tied-q8_0", make_model("llama", o)});
    o.shape.head_dim = 64;
    o.shape.layers = 1;
    o.type = "F16";
    v.push_back({"llama-f16", make_model("llama16", o)});
    return v;
  }();
  return all;
}

}  // namespace ponder::backend::cpu
