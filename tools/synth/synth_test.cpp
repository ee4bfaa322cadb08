// Small synthetic files of each architecture, read back; the mixture's choices against those of a
// real file; and conversions within the loss of their format.
#include "synth/synth.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "base/os/file.h"
#include "base/os/system.h"
#include "gguf/gguf.h"
#include "synth/vocabulary.h"

namespace ponder::synth {
namespace {

namespace fs = std::filesystem;

class Synth : public testing::Test {
 protected:
  Synth() {
    folder_ = fs::temp_directory_path() / ("ponder-synth-" + std::to_string(os::random_u64()));
    fs::create_directories(folder_);
  }
  ~Synth() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::shared_ptr<const gguf::File> make(const Options& o, const std::string& name = "m.gguf") {
    const auto written = write_model(o, path(name));
    EXPECT_TRUE(written.ok()) << (written.ok() ? "" : written.error().message);
    auto file = gguf::File::open(path(name));
    EXPECT_TRUE(file.ok()) << (file.ok() ? "" : file.error().message);
    return file.ok() ? *file : nullptr;
  }

  fs::path folder_;
};

std::string cached(const std::string& name) {
  const auto dir = os::env("PONDER_MODEL_CACHE");
  return (dir ? *dir : os::home_directory() + "/.cache/ponder-tests") + "/" + name;
}

std::vector<float> weights(const gguf::TensorInfo& t) {
  std::vector<float> x(t.n_elements());
  const quant::Format* f = quant::find_format(t.type);
  f->dequantize(t.data.data(), x.data(), x.size() / f->block_size);
  return x;
}

TEST_F(Synth, EachArchitectureHasItsTensors) {
  for (const std::string arch : {"qwen2", "llama", "qwen3"}) {
    Options o;
    ASSERT_TRUE(set_architecture(o.shape, arch).ok());
    o.shape.tied = arch == "qwen3";
    const auto f = make(o);
    ASSERT_NE(f, nullptr);
    EXPECT_EQ(*f->require_string("general.architecture"), arch);
    EXPECT_EQ(*f->require_u64(arch + ".block_count", 4, 4), 4u);
    EXPECT_EQ(*f->require_u64(arch + ".attention.head_count_kv", 2, 2), 2u);
    EXPECT_EQ(f->find_tensor("output.weight") == nullptr, arch == "qwen3");
    EXPECT_EQ(f->find_tensor("blk.3.attn_k.bias") != nullptr, arch == "qwen2");
    EXPECT_EQ(f->find_tensor("blk.3.attn_q_norm.weight") != nullptr, arch == "qwen3");
    EXPECT_EQ(f->find_tensor("blk.0.ffn_down.weight")->shape, (std::vector<uint64_t>{768, 256}));
    EXPECT_EQ(f->get_array("tokenizer.ggml.tokens")->size(), o.shape.vocab);
  }
}

TEST_F(Synth, WeightsHaveTheirDeviationAndRowsDiffer) {
  for (const std::string type : {"Q4_K_M", "F16", "Q8_0"}) {
    Options o;
    o.type = type;
    const auto f = make(o);
    const gguf::TensorInfo& t = *f->find_tensor("blk.1.ffn_up.weight");
    const auto x = weights(t);
    double sum = 0, square = 0;
    for (const float v : x) {
      sum += v;
      square += double(v) * v;
    }
    EXPECT_NEAR(std::sqrt(square / double(x.size())) * 16, 1, 0.02) << type;  // 1 / sqrt(256)
    EXPECT_NEAR(sum / double(x.size()), 0, 1e-3) << type;
    // 1024 rows of one chunk each, out of 2048: some repeat, most do not. Longer rows hardly ever
    // repeat.
    std::set<std::vector<float>> rows;
    const auto down = weights(*f->find_tensor("blk.1.ffn_down.weight"));
    for (size_t r = 0; r < 256; ++r) rows.emplace(down.begin() + long(r * 768), down.begin() + long(r * 768 + 768));
    EXPECT_EQ(rows.size(), 256u) << type;
  }
}

// A head that repeats rows of the embedding would answer each token with itself.
TEST_F(Synth, HeadAndEmbeddingShareNoRows) {
  Options o;
  o.type = "F32";
  const auto f = make(o);
  std::set<std::vector<float>> rows;
  for (const char* name : {"token_embd.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight"}) {
    std::set<std::vector<float>> own;
    const gguf::TensorInfo& t = *f->find_tensor(name);
    auto x = weights(t);
    for (size_t r = 0; r < t.rows(); ++r) {
      std::vector<float> row(x.begin() + long(r * 256), x.begin() + long(r * 256 + 256));
      const float first = row[0];
      for (float& v : row) v = std::round(1e4f * v / first);  // whatever the deviation
      own.insert(std::move(row));
    }
    for (const auto& row : own) EXPECT_TRUE(rows.insert(row).second) << name;
  }
}

TEST_F(Synth, SeedDecidesEverything) {
  Options o;
  o.seed = 5;
  make(o, "a.gguf");
  make(o, "b.gguf");
  o.seed = 6;
  make(o, "c.gguf");
  const auto a = os::read_file(path("a.gguf")), b = os::read_file(path("b.gguf")), c = os::read_file(path("c.gguf"));
  EXPECT_TRUE(*a == *b);
  EXPECT_FALSE(*a == *c);
}

// Every tensor of DeepSeek's own Q4_K_M gets the type that llama.cpp gave it, and so do those of a
// small model whose rows are not multiples of 256. (The small one was written when llama.cpp
// counted layers in file order, blk.10 after blk.1, so there only the number of layers with more
// bits can agree.)
TEST_F(Synth, MixtureAgreesWithRealFiles) {
  const auto mix = find_mix("q4_k_m");
  ASSERT_TRUE(mix.ok());
  for (const std::string name : {"r1-7b-head.gguf", "qwen-0.5b.gguf"}) {
    auto f = gguf::File::open(cached(name), {.metadata_only = true});
    ASSERT_TRUE(f.ok()) << f.error().message << " (run `make test-models`)";
    const uint64_t layers = *(*f)->require_u64("qwen2.block_count", 1, 100);
    std::map<std::string, int> ours, theirs;
    for (const auto& t : (*f)->tensors()) {
      const auto& format = choose(*mix, t.name, t.shape.size(), t.columns(), layers, false);
      std::string key = t.name;
      if (name == "qwen-0.5b.gguf" && key.starts_with("blk.")) key = key.substr(key.find('.', 4));
      ++ours[key + " " + format.name];
      ++theirs[key + " " + quant::type_name(t.type)];
    }
    EXPECT_EQ(ours, theirs) << name;
  }
}

TEST_F(Synth, PresetHasTheTensorsOfTheRealModel) {
  auto f = gguf::File::open(cached("r1-7b-head.gguf"), {.metadata_only = true});
  ASSERT_TRUE(f.ok()) << f.error().message << " (run `make test-models`)";
  const auto list = tensors(*preset("r1-distill-qwen-7b"));
  EXPECT_EQ(list.size(), (*f)->tensors().size());
  for (const auto& t : list) {
    const auto* real = (*f)->find_tensor(t.name);
    ASSERT_NE(real, nullptr) << t.name;
    EXPECT_EQ(real->shape, t.shape) << t.name;
  }
  for (const auto& name : preset_names()) {
    ASSERT_TRUE(preset(name)) << name;
    EXPECT_TRUE(check(*preset(name)).ok()) << name;
  }
}

TEST_F(Synth, VocabularyIsCopied) {
  Options o;
  o.vocab_from = cached("r1-7b-head.gguf");
  const auto f = make(o);
  ASSERT_NE(f, nullptr) << "run `make test-models`";
  EXPECT_EQ(f->get_string("tokenizer.ggml.pre"), "deepseek-r1-qwen");
  EXPECT_EQ(f->get_array("tokenizer.ggml.tokens")->size(), 152064u);
  EXPECT_EQ(f->find_tensor("token_embd.weight")->rows(), 152064u);
  EXPECT_NE(f->get_string("tokenizer.chat_template")->find("Assistant"), std::string::npos);
}

TEST_F(Synth, OwnVocabularyIsConsistent) {
  Options o;
  o.shape.vocab = smallest_vocabulary();
  const auto f = make(o);
  const auto* tokens = f->get_array("tokenizer.ggml.tokens");
  std::set<std::string> known;
  for (uint64_t i = 0; i < tokens->size(); ++i) EXPECT_TRUE(known.emplace(*tokens->string_at(i)).second);
  const auto* merges = f->get_array("tokenizer.ggml.merges");
  EXPECT_GE(merges->size(), 50u);
  for (uint64_t i = 0; i < merges->size(); ++i) {
    const std::string merge(*merges->string_at(i));
    const size_t space = merge.find(' ');
    EXPECT_TRUE(known.count(merge.substr(0, space)) && known.count(merge.substr(space + 1))) << merge;
    EXPECT_TRUE(known.count(merge.substr(0, space) + merge.substr(space + 1))) << merge;
  }
  EXPECT_EQ(tokens->string_at(*f->get_u64("tokenizer.ggml.eos_token_id")), "<｜end▁of▁sentence｜>");
  o.shape.vocab--;
  EXPECT_FALSE(write_model(o, path("n.gguf")).ok());
}

TEST_F(Synth, RowsThatAreNoWholeBlocksFallBack) {
  Options o;
  o.shape.hidden = 96;
  o.shape.heads = 3;
  o.shape.kv_heads = 1;
  o.shape.ffn = 160;
  const auto f = make(o);
  EXPECT_EQ(f->find_tensor("output.weight")->type, uint32_t(quant::Type::q8_0));
  EXPECT_EQ(f->find_tensor("blk.0.ffn_up.weight")->type, uint32_t(quant::Type::q5_0));
  o.shape.hidden = 90;
  const auto odd = make(o);
  EXPECT_EQ(odd->find_tensor("blk.0.ffn_up.weight")->type, uint32_t(quant::Type::f16));
}

TEST_F(Synth, LlamaScalingFactors) {
  const auto f = rope_factors(*preset("r1-distill-llama-8b"));
  ASSERT_EQ(f.size(), 64u);
  EXPECT_EQ(f.front(), 1.0f);
  EXPECT_EQ(f.back(), 8.0f);
  for (size_t i = 1; i < f.size(); ++i) EXPECT_GE(f[i], f[i - 1]);
}

TEST_F(Synth, ConversionKeepsValues) {
  Options o;
  o.type = "F32";
  const auto from = make(o, "from.gguf");
  const struct {
    const char* type;
    double limit;
  } kCases[] = {{"F16", 5e-4}, {"Q8_0", 0.01}, {"Q6_K", 0.03}, {"Q4_K_M", 0.1}};
  for (const auto& c : kCases) {
    const auto done = convert(path("from.gguf"), path("to.gguf"), c.type);
    ASSERT_TRUE(done.ok()) << done.error().message;
    auto to = gguf::File::open(path("to.gguf"));
    ASSERT_TRUE(to.ok()) << to.error().message;
    EXPECT_EQ((*to)->get_u64("general.file_type"), find_mix(c.type)->file_type);
    EXPECT_EQ((*to)->metadata().size(), from->metadata().size());
    for (const auto& t : from->tensors()) {
      const auto* u = (*to)->find_tensor(t.name);
      ASSERT_NE(u, nullptr);
      const auto x = weights(t), y = weights(*u);
      double error = 0, power = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        error += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
        power += double(x[i]) * x[i];
      }
      EXPECT_LE(std::sqrt(error / power), t.shape.size() < 2 ? 0 : c.limit) << c.type << " " << t.name;
    }
  }
}

TEST_F(Synth, MistakesAreNamed) {
  const auto expect = [&](const Options& o, const std::string& part) {
    const auto r = write_model(o, path("x.gguf"));
    ASSERT_FALSE(r.ok()) << part;
    EXPECT_NE(r.error().message.find(part), std::string::npos) << r.error().message;
  };
  Options o;
  o.type = "Q3_X";
  expect(o, "--type: 'Q3_X'");
  o = {};
  o.shape.kv_heads = 3;
  expect(o, "--kv-heads");
  o = {};
  o.shape.layers = 0;
  expect(o, "--layers");
  o = {};
  o.vocab_from = "/nonexistent.gguf";
  expect(o, "/nonexistent.gguf");
  EXPECT_FALSE(convert("/nonexistent.gguf", path("y.gguf"), "F16").ok());
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace ponder::synth
