// Models built in memory, one hyper-parameter or tensor wrong at a time; RoPE scaling against
// figures worked out here by the papers' formulas; the real files. Logits are judged in
// backend/reference.
#include "model/model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>

#include "base/os/system.h"
#include "gguf/writer.h"

namespace ponder::model {
namespace {

using gguf::Writer;

/// A one-layer model of zeros with keys and tensors that a test may change before build().
struct Fake {
  std::string arch;
  std::map<std::string, std::function<void(Writer&, const std::string&)>> keys;
  struct T {
    std::vector<uint64_t> shape;
    uint32_t type = 0;
  };
  std::map<std::string, T> tensors;
  std::vector<float> rope_freqs;

  explicit Fake(std::string architecture) : arch(std::move(architecture)) {
    set("block_count", 1), set("embedding_length", 64), set("context_length", 512), set("feed_forward_length", 96);
    set("attention.head_count", 4), set("attention.head_count_kv", 2);
    set_number("attention.layer_norm_rms_epsilon", 1e-5f);
    const auto add = [&](const char* name, std::vector<uint64_t> shape) { tensors[name] = {std::move(shape), 0}; };
    add("token_embd.weight", {64, 100}), add("output_norm.weight", {64});
    add("blk.0.attn_norm.weight", {64}), add("blk.0.ffn_norm.weight", {64});
    add("blk.0.attn_q.weight", {64, 64}), add("blk.0.attn_k.weight", {64, 32}), add("blk.0.attn_v.weight", {64, 32});
    add("blk.0.attn_output.weight", {64, 64});
    add("blk.0.ffn_gate.weight", {64, 96}), add("blk.0.ffn_up.weight", {64, 96}),
        add("blk.0.ffn_down.weight", {96, 64});
    if (arch == "qwen2") add("blk.0.attn_q.bias", {64}), add("blk.0.attn_k.bias", {32}), add("blk.0.attn_v.bias", {32});
    if (arch == "qwen3") add("blk.0.attn_q_norm.weight", {16}), add("blk.0.attn_k_norm.weight", {16});
  }
  Fake& set(const std::string& key, uint32_t v) {
    keys[key] = [v](Writer& w, const std::string& k) { w.add_u32(k, v); };
    return *this;
  }
  Fake& set_number(const std::string& key, float v) {
    keys[key] = [v](Writer& w, const std::string& k) { w.add_f32(k, v); };
    return *this;
  }
  Fake& set_text(const std::string& key, const std::string& v) {
    keys[key] = [v](Writer& w, const std::string& k) { w.add_string(k, v); };
    return *this;
  }

  std::shared_ptr<const gguf::File> build(bool with_data = true) const {
    Writer w;
    w.add_string("general.architecture", arch).add_string("general.name", "Fake");
    for (const auto& [key, put] : keys) put(w, arch + "." + key);
    auto bytes = std::make_shared<std::vector<uint8_t>>();
    std::vector<uint8_t> data;
    for (const auto& [name, t] : tensors) {
      uint64_t n = 1;
      for (const uint64_t d : t.shape) n *= d;
      const auto* format = quant::find_format(t.type);
      const uint64_t size = format ? n / format->block_size * format->block_bytes : n / 256 * 66;  // IQ2_XXS
      w.add_tensor(name, t.shape, t.type, size);
      data.resize((data.size() + 31) / 32 * 32 + size);
      if (name == "rope_freqs.weight") std::memcpy(data.data() + data.size() - size, rope_freqs.data(), size);
    }
    const std::string header = w.header();
    bytes->assign(header.begin(), header.end());
    if (with_data) {
      bytes->resize((bytes->size() + 31) / 32 * 32);
      bytes->insert(bytes->end(), data.begin(), data.end());
      bytes->resize((bytes->size() + 31) / 32 * 32);
    }
    auto file = gguf::File::parse(*bytes, bytes, "fake.gguf", {.metadata_only = !with_data});
    EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message);
    return file.ok() ? *file : nullptr;
  }
};

void expect_error(const Fake& fake, ErrorCode code, std::initializer_list<const char*> parts) {
  const auto file = fake.build();
  ASSERT_TRUE(file);
  const auto model = Model::load(file);
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(to_string(model.error().code), std::string(to_string(code))) << model.error().message;
  for (const char* part : parts)
    EXPECT_NE(model.error().message.find(part), std::string::npos) << model.error().message << "\n  lacks: " << part;
}

std::shared_ptr<const Model> load(const Fake& fake) {
  auto model = Model::load(fake.build());
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
  return model.ok() ? *model : nullptr;
}

std::shared_ptr<const gguf::File> real_file(const char* name, gguf::OpenOptions options = {}) {
  const std::string dir = os::env("PONDER_MODEL_CACHE").value_or(os::home_directory() + "/.cache/ponder-tests");
  auto file = gguf::File::open(dir + "/" + name, options);
  EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message) << " (run `make test-models`)";
  return file.ok() ? *file : nullptr;
}

TEST(Load, FlagsOfEachArchitecture) {
  auto qwen2 = load(Fake("qwen2"));
  ASSERT_TRUE(qwen2);
  EXPECT_TRUE(qwen2->spec.layers[0].qkv_bias);
  EXPECT_FALSE(qwen2->spec.layers[0].qk_norm);
  EXPECT_EQ(qwen2->spec.rope.layout, RopeLayout::halves);
  EXPECT_TRUE(qwen2->spec.tied_head);
  EXPECT_EQ(qwen2->spec.vocab_size, 100);
  EXPECT_EQ(qwen2->spec.layers[0].head_dim, 16);
  EXPECT_FLOAT_EQ(qwen2->spec.attention_scale, 0.25f);
  EXPECT_EQ(qwen2->layers[0].k_bias.columns, 32u);
  EXPECT_EQ(qwen2->output.name, "token_embd.weight");
  const uint64_t params = 6400 + 64 + 64 + 64 + 2 * 4096 + 2 * 2048 + 3 * 96 * 64 + 64 + 32 + 32;
  EXPECT_EQ(qwen2->spec.n_parameters, params);
  EXPECT_EQ(qwen2->weight_bytes, params * 4);
  EXPECT_EQ(qwen2->spec.linear_macs(), 6400u + 2 * 4096 + 2 * 2048 + 3 * 96 * 64);

  auto llama = load(Fake("llama"));
  ASSERT_TRUE(llama);
  EXPECT_FALSE(llama->spec.layers[0].qkv_bias);
  EXPECT_EQ(llama->spec.rope.layout, RopeLayout::pairs);

  Fake biased("llama");
  biased.tensors["blk.0.attn_q.bias"] = {{64}}, biased.tensors["blk.0.attn_k.bias"] = {{32}};
  biased.tensors["blk.0.attn_v.bias"] = {{32}}, biased.tensors["blk.0.attn_output.bias"] = {{64}};
  auto with_bias = load(biased);
  ASSERT_TRUE(with_bias);
  EXPECT_TRUE(with_bias->spec.layers[0].qkv_bias);
  EXPECT_TRUE(with_bias->spec.layers[0].output_bias);

  Fake untied("qwen3");
  untied.tensors["output.weight"] = {{64, 100}};
  auto qwen3 = load(untied);
  ASSERT_TRUE(qwen3);
  EXPECT_TRUE(qwen3->spec.layers[0].qk_norm);
  EXPECT_FALSE(qwen3->spec.tied_head);
}

TEST(Load, HeadSizeOfItsOwn) {
  Fake fake("qwen3");
  fake.set("attention.key_length", 40).set("attention.value_length", 40).set("rope.dimension_count", 24);
  fake.tensors["blk.0.attn_q.weight"] = {{64, 160}}, fake.tensors["blk.0.attn_k.weight"] = {{64, 80}};
  fake.tensors["blk.0.attn_v.weight"] = {{64, 80}}, fake.tensors["blk.0.attn_output.weight"] = {{160, 64}};
  fake.tensors["blk.0.attn_q_norm.weight"] = {{40}}, fake.tensors["blk.0.attn_k_norm.weight"] = {{40}};
  auto model = load(fake);
  ASSERT_TRUE(model);
  EXPECT_EQ(model->spec.layers[0].q_size(), 160);
  EXPECT_EQ(model->spec.rope.inverse_frequencies.size(), 12u);
}

TEST(Load, WrongKeysAreNamed) {
  using enum ErrorCode;
  expect_error(Fake("mamba"), unsupported, {"'mamba'", "llama, qwen2, qwen3"});
  Fake fake("qwen2");
  fake.keys.erase("block_count");
  expect_error(fake, invalid_file, {"qwen2.block_count", "missing"});
  const uint32_t huge = std::numeric_limits<uint32_t>::max();
  for (const char* key :
       {"block_count", "embedding_length", "context_length", "feed_forward_length", "attention.head_count",
        "attention.head_count_kv", "rope.dimension_count", "attention.key_length", "attention.value_length"}) {
    expect_error(Fake("llama").set(key, huge), invalid_file, {key, "4294967295"});
    expect_error(Fake("llama").set(key, 0), invalid_file, {key, "0 is not between"});
    expect_error(Fake("llama").set_text(key, "many"), invalid_file, {key, "string"});
  }
  expect_error(Fake("llama").set("attention.head_count", 5), invalid_file, {"head_count_kv", "2 does not divide"});
  expect_error(Fake("llama").set("attention.head_count", 6), invalid_file, {"6 does not divide embedding_length 64"});
  expect_error(Fake("llama").set("attention.value_length", 8), unsupported, {"value_length", "8 differs"});
  expect_error(Fake("llama").set("rope.dimension_count", 7), invalid_file, {"rope.dimension_count", "odd"});
  expect_error(Fake("llama").set("expert_count", 8), unsupported, {"expert_count"});
  expect_error(Fake("llama").set_number("attention.layer_norm_rms_epsilon", -1), invalid_file, {"rms_epsilon"});
  expect_error(Fake("llama").set_number("rope.freq_base", NAN), invalid_file, {"rope.freq_base"});
  expect_error(Fake("llama").set_text("rope.scaling.type", "longrope"), unsupported, {"longrope", "yarn"});
  expect_error(Fake("llama").set_text("rope.scaling.type", "linear"), invalid_file, {"rope.scaling.factor", "missing"});
  expect_error(Fake("llama").set_number("rope.scaling.factor", 0), invalid_file, {"rope.scaling.factor", "0 is not"});
  // The largest sizes that pass the ranges do not overflow: the first tensor with another shape is
  // the error.
  Fake big("llama");
  big.set("block_count", 4096).set("attention.head_count", 4096).set("attention.head_count_kv", 4096);
  big.set("attention.key_length", 4096).set("attention.value_length", 4096).set("feed_forward_length", 1 << 20);
  expect_error(big, invalid_file, {"blk.0.attn_q.weight", "[64, 64]", "[64, 16777216]"});
}

TEST(Load, WrongTensorsAreNamed) {
  using enum ErrorCode;
  for (const auto& [name, tensor] : Fake("qwen2").tensors) {
    Fake lacking("qwen2");
    lacking.tensors.erase(name);
    expect_error(lacking, invalid_file, {name.c_str(), "missing"});
    Fake wide("qwen2");
    wide.tensors[name].shape[0] += 32;
    expect_error(wide, invalid_file, {name.c_str(), "expected ["});
  }
  Fake fake("qwen2");
  fake.tensors["blk.0.attn_k.weight"].shape = {32, 64};
  expect_error(fake, invalid_file, {"blk.0.attn_k.weight", "[32, 64]", "[64, 32]"});
  fake = Fake("llama");
  fake.tensors["blk.0.attn_q_norm.weight"] = {{16}};
  expect_error(fake, unsupported, {"blk.0.attn_q_norm.weight", "no place"});
  fake = Fake("llama");
  fake.set("embedding_length", 256).set("attention.key_length", 16);
  for (auto& [name, t] : fake.tensors)
    for (auto& d : t.shape)
      if (d == 64 && name != "blk.0.attn_q.weight" && name != "blk.0.attn_output.weight") d = 256;
  fake.tensors["blk.0.attn_q.weight"].shape = {256, 64}, fake.tensors["blk.0.attn_output.weight"].shape = {64, 256};
  ASSERT_TRUE(load(fake));
  fake.tensors["blk.0.ffn_up.weight"].type = 16;  // IQ2_XXS
  expect_error(fake, unsupported, {"blk.0.ffn_up.weight", "IQ2_XXS"});
  fake.tensors["blk.0.ffn_up.weight"].type = 0;
  fake.tensors["blk.0.ffn_norm.weight"].type = 8;
  expect_error(fake, invalid_file, {"blk.0.ffn_norm.weight", "Q8_0", "F32"});
}

TEST(Load, WithoutDataThereIsASpecButNoModel) {
  const auto file = Fake("llama").build(false);
  ASSERT_TRUE(file);
  const auto spec = read_spec(*file);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->hidden_size, 64);
  const auto model = Model::load(file);
  ASSERT_FALSE(model.ok());
  EXPECT_NE(model.error().message.find("cut short"), std::string::npos) << model.error().message;
}

double plain(int i, int dims, double base) { return 1 / std::pow(base, 2.0 * i / dims); }

TEST(Rope, Linear) {
  for (const bool old : {false, true}) {
    Fake fake("llama");
    fake.set_number(old ? "rope.scale_linear" : "rope.scaling.factor", 4).set_number("rope.freq_base", 1e6f);
    auto model = load(fake);
    ASSERT_TRUE(model);
    for (int i = 0; i < 8; ++i)
      EXPECT_NEAR(model->spec.rope.inverse_frequencies[size_t(i)] / (plain(i, 16, 1e6) / 4), 1, 1e-12);
  }
}

TEST(Rope, Llama3FromKeysAndFromTheTensorAgree) {
  Fake fake("llama");
  fake.set("attention.key_length", 128).set("attention.value_length", 128).set_number("rope.freq_base", 500000);
  fake.tensors["blk.0.attn_q.weight"] = {{64, 512}}, fake.tensors["blk.0.attn_k.weight"] = {{64, 256}};
  fake.tensors["blk.0.attn_v.weight"] = {{64, 256}}, fake.tensors["blk.0.attn_output.weight"] = {{512, 64}};
  Fake keyed = fake;
  keyed.set_text("rope.scaling.type", "llama3").set_number("rope.scaling.factor", 8);
  keyed.set("rope.scaling.original_context_length", 8192);
  keyed.set_number("rope.scaling.low_freq_factor", 1).set_number("rope.scaling.high_freq_factor", 4);
  // As the converter writes it: 1, factor, or the blend's reciprocal.
  for (int i = 0; i < 64; ++i) {
    const double f = plain(i, 128, 500000), turns = 8192 * f / (2 * M_PI);
    const double smooth = (turns - 1) / 3;
    fake.rope_freqs.push_back(float(turns > 4 ? 1 : turns < 1 ? 8 : 1 / ((1 - smooth) / 8 + smooth)));
  }
  fake.tensors["rope_freqs.weight"] = {{64}};
  auto a = load(keyed), b = load(fake);
  ASSERT_TRUE(a && b);
  int blended = 0;
  for (size_t i = 0; i < 64; ++i) {
    const double f = a->spec.rope.inverse_frequencies[i], ratio = plain(int(i), 128, 500000) / f;
    EXPECT_NEAR(f / b->spec.rope.inverse_frequencies[i], 1, 1e-6) << i;
    blended += ratio > 1.001 && ratio < 7.999;
  }
  EXPECT_GT(blended, 3);
  EXPECT_NEAR(plain(63, 128, 500000) / a->spec.rope.inverse_frequencies[63], 8, 1e-9);
  EXPECT_EQ(b->spec.n_parameters, a->spec.n_parameters);

  fake.rope_freqs[7] = 0;
  expect_error(fake, ErrorCode::invalid_file, {"rope_freqs.weight", "number 7"});
  fake.tensors["rope_freqs.weight"].shape[0] = 32;
  expect_error(fake, ErrorCode::invalid_file, {"rope_freqs.weight", "64 numbers"});
}

TEST(Rope, Yarn) {
  // DeepSeek-R1-0528-Qwen3-8B: base 1e6, 128 dims, factor 4 over 32768. By YaRN's formulas
  // frequencies up to index 23 make more than 32 turns and stay, those from 40 on make less than
  // one and are divided by 4.
  Fake fake("qwen3");
  fake.set("attention.key_length", 128).set("attention.value_length", 128).set_number("rope.freq_base", 1e6f);
  fake.tensors["blk.0.attn_q.weight"] = {{64, 512}}, fake.tensors["blk.0.attn_k.weight"] = {{64, 256}};
  fake.tensors["blk.0.attn_v.weight"] = {{64, 256}}, fake.tensors["blk.0.attn_output.weight"] = {{512, 64}};
  fake.tensors["blk.0.attn_q_norm.weight"] = {{128}}, fake.tensors["blk.0.attn_k_norm.weight"] = {{128}};
  fake.set_text("rope.scaling.type", "yarn").set_number("rope.scaling.factor", 4);
  fake.set("rope.scaling.original_context_length", 32768);
  auto model = load(fake);
  ASSERT_TRUE(model);
  const auto& f = model->spec.rope.inverse_frequencies;
  EXPECT_NEAR(f[0], 1, 1e-12);
  EXPECT_NEAR(f[23] / plain(23, 128, 1e6), 1, 1e-9);
  EXPECT_NEAR(f[40] / plain(40, 128, 1e6), 0.25, 1e-9);
  EXPECT_NEAR(f[63] / plain(63, 128, 1e6), 0.25, 1e-9);
  EXPECT_NEAR(f[31] / plain(31, 128, 1e6), 1 - 0.75 * 8 / 17, 1e-9);
  EXPECT_NEAR(model->spec.rope.magnitude, 1.1386294361, 1e-9);
  fake.set_number("rope.scaling.attn_factor", 0.8782489f);
  model = load(fake);
  ASSERT_TRUE(model);
  EXPECT_NEAR(model->spec.rope.magnitude, 1, 1e-6);
}

TEST(Describe, ParameterSize) {
  EXPECT_EQ(parameter_size(7'615'616'512), "7.6B");
  EXPECT_EQ(parameter_size(8'000'000'000), "8B");
  EXPECT_EQ(parameter_size(494'032'768), "494.03M");
  EXPECT_EQ(parameter_size(28'929'536), "28.93M");
  EXPECT_EQ(parameter_size(12'345), "12K");
  EXPECT_EQ(parameter_size(999), "999");
}

TEST(Describe, QuantizationName) {
  Fake fake("llama");
  EXPECT_EQ(quantization_name(*fake.build()), "F32");
  for (auto& [name, t] : fake.tensors)
    if (name.find("token_embd") == std::string::npos && t.shape.size() == 2) t.type = 2;
  EXPECT_EQ(quantization_name(*fake.build()), "Q4_0");
}

TEST(RealFiles, LoadAndDescribe) {
  struct Case {
    const char *file, *arch, *quantization, *size;
    int layers, hidden, vocab;
    bool tied;
  };
  for (const Case& c : {Case{"qwen-0.5b.gguf", "qwen2", "Q4_K_M", "630.17M", 24, 896, 151936, false},
                        Case{"smollm2.gguf", "llama", "Q4_1", "134.52M", 30, 576, 49152, true}}) {
    const auto file = real_file(c.file);
    ASSERT_TRUE(file);
    const auto model = Model::load(file);
    ASSERT_TRUE(model.ok()) << model.error().message;
    const ModelSpec& s = (*model)->spec;
    EXPECT_EQ(s.architecture, c.arch);
    EXPECT_EQ(s.n_layers, c.layers);
    EXPECT_EQ(s.hidden_size, c.hidden);
    EXPECT_EQ(s.vocab_size, c.vocab);
    EXPECT_EQ(s.tied_head, c.tied);
    EXPECT_EQ(quantization_name(*file), c.quantization);
    EXPECT_EQ(parameter_size(s.n_parameters), c.size);
    EXPECT_LT((*model)->weight_bytes, file->total_bytes());
    EXPECT_GT((*model)->weight_bytes, file->total_bytes() * 9 / 10);
  }
}

TEST(RealFiles, SpecOfTheHeadOfR1) {
  const auto file = real_file("r1-7b-head.gguf", {.metadata_only = true});
  ASSERT_TRUE(file);
  const auto spec = read_spec(*file);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->layers.size(), 28u);
  EXPECT_EQ(spec->layers[27].head_dim, 128);
  EXPECT_EQ(spec->vocab_size, 152064);
  EXPECT_EQ(parameter_size(spec->n_parameters), "7.6B");
  EXPECT_FALSE(Model::load(file).ok());
}

}  // namespace
}  // namespace ponder::model
