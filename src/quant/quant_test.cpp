// Every format against the `gguf` package's goldens (tools/make-golden/quant.py), its integer form
// against its own decoder, and the loss of its quantiser.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "base/half.h"
#include "base/os/file.h"
#include "quant/format.h"
#include "quant/k_blocks.h"

namespace ponder::quant {
namespace {

std::string lower(std::string s) {
  for (char& c : s) c = char(std::tolower(static_cast<unsigned char>(c)));
  return s;
}

struct Golden {
  uint32_t n_blocks = 0;
  std::vector<uint8_t> blocks;
  std::vector<float> weights;
};

/// tests/golden/quant/<format>.<kind>.bin; in "decode" the blocks come first, in "encode" the
/// weights.
bool read_golden(const Format& f, const std::string& kind, Golden* out) {
  auto file =
      os::read_file(std::string(PONDER_SOURCE_DIR) + "/tests/golden/quant/" + lower(f.name) + "." + kind + ".bin");
  if (!file.ok()) return false;
  const std::string& s = *file;
  std::memcpy(&out->n_blocks, s.data(), 4);
  out->blocks.resize(size_t(out->n_blocks) * f.block_bytes);
  out->weights.resize(size_t(out->n_blocks) * f.block_size);
  const size_t weight_bytes = out->weights.size() * 4;
  EXPECT_EQ(s.size(), 4 + out->blocks.size() + weight_bytes) << f.name;
  if (s.size() != 4 + out->blocks.size() + weight_bytes) return false;
  const bool blocks_first = kind == "decode";
  std::memcpy(out->blocks.data(), s.data() + 4 + (blocks_first ? 0 : weight_bytes), out->blocks.size());
  std::memcpy(out->weights.data(), s.data() + 4 + (blocks_first ? out->blocks.size() : 0), weight_bytes);
  return true;
}

TEST(Quant, RegistryHoldsEveryFormat) {
  const std::set<std::string> expected = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                          "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
  std::set<std::string> found;
  uint32_t last = 0;
  for (const Format* f : all_formats()) {
    found.insert(f->name);
    EXPECT_GE(uint32_t(f->type), last);
    last = uint32_t(f->type);
    EXPECT_EQ(find_format(uint32_t(f->type)), f);
    EXPECT_EQ(find_format(lower(f->name)), f);
    EXPECT_EQ(type_name(uint32_t(f->type)), f->name);
    EXPECT_EQ(f->is_float, f->decode_ints == nullptr) << f->name;
  }
  for (const auto& name : expected) EXPECT_TRUE(found.count(name)) << name;
  EXPECT_EQ(find_format(16u), nullptr);
  EXPECT_EQ(find_format("q9_9"), nullptr);
  EXPECT_EQ(type_name(16), "IQ2_XXS");
  EXPECT_EQ(type_name(99), "type 99");
  const Error e = unsupported_type("blk.0.ffn_up.weight", 16);
  EXPECT_EQ(e.code, ErrorCode::unsupported);
  for (const char* part : {"blk.0.ffn_up.weight", "IQ2_XXS", "Q4_K", "BF16"}) {
    EXPECT_NE(e.message.find(part), std::string::npos) << e.message;
  }
}

TEST(Quant, DequantizeIsBitEqualToGoldens) {
  for (const Format* f : all_formats()) {
    Golden g;
    ASSERT_TRUE(read_golden(*f, "decode", &g)) << f->name << ": run tools/make-golden/quant.py";
    std::vector<float> got(g.weights.size());
    f->dequantize(g.blocks.data(), got.data(), g.n_blocks);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(g.weights[i]))
          << f->name << " weight " << i << ": " << got[i] << " for " << g.weights[i];
    }
  }
}

TEST(Quant, SimpleQuantizersAreBitEqualToGoldens) {
  int n = 0;
  for (const Format* f : all_formats()) {
    Golden g;
    if (!read_golden(*f, "encode", &g)) continue;  // the K formats have no golden: see LossIsBounded
    ++n;
    std::vector<uint8_t> got(g.blocks.size());
    f->quantize(g.weights.data(), got.data(), g.n_blocks);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], g.blocks[i]) << f->name << " byte " << i;
  }
  EXPECT_EQ(n, 8);
}

// The canonical integers, evaluated in double, against the decoder; its own roundings (two or three
// of them) are all the difference that is allowed.
TEST(Quant, IntegerFormMeansTheSame) {
  for (const Format* f : all_formats()) {
    if (f->is_float) continue;
    Golden g;
    ASSERT_TRUE(read_golden(*f, "decode", &g)) << f->name;
    std::vector<float> want(g.weights.size());
    f->dequantize(g.blocks.data(), want.data(), g.n_blocks);
    for (uint32_t b = 0; b < g.n_blocks; ++b) {
      IntBlock ints{.d = 7, .dmin = 7};  // decode_ints must set every field
      for (auto* field : {&ints.min[0], &ints.q[0]}) *field = 0xee;
      ints.scale[15] = ints.min[15] = 0x6e;
      ints.q[255] = 0xee;
      f->decode_ints(g.blocks.data() + size_t(b) * f->block_bytes, &ints);
      const double d = half_to_float(ints.d), dmin = half_to_float(ints.dmin);
      for (uint32_t k = 0; k < f->block_size; ++k) {
        const uint32_t s = k / f->sub_block;
        ASSERT_LT(int(ints.q[k]), 1 << f->bits) << f->name;
        const double product = d * ints.scale[s] * (int(ints.q[k]) - int(f->offset));
        const double low = dmin * ints.min[s];
        if (!f->has_min) {
          ASSERT_EQ(low, 0.0) << f->name;
        }
        const double tolerance = (std::fabs(product) + std::fabs(low)) * 0x1p-22;
        ASSERT_NEAR(product - low, want[size_t(b) * f->block_size + k], tolerance) << f->name << " block " << b;
      }
      for (uint32_t k = f->block_size; k < 256; ++k) ASSERT_EQ(ints.q[k], 0) << f->name;
      for (uint32_t s = f->block_size / f->sub_block; s < 16; ++s) {
        ASSERT_EQ(ints.scale[s], 0) << f->name;
        ASSERT_EQ(ints.min[s], 0) << f->name;
      }
    }
  }
}

std::vector<float> normal(size_t n, float sigma, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> dist(0, sigma);
  std::vector<float> x(n);
  for (float& v : x) v = dist(engine);
  return x;
}

double relative_rms(const Format& f, const std::vector<float>& x) {
  const size_t n_blocks = x.size() / f.block_size;
  std::vector<uint8_t> blocks(n_blocks * f.block_bytes);
  std::vector<float> y(x.size());
  f.quantize(x.data(), blocks.data(), n_blocks);
  f.dequantize(blocks.data(), y.data(), n_blocks);
  double error = 0, power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (double(y[i]) - x[i]) * (double(y[i]) - x[i]);
    power += double(x[i]) * x[i];
  }
  return std::sqrt(error / power);
}

// Root mean square error over root mean square of normal weights. The limits lie about a tenth
// above what is measured, so a quantiser that loses its scale search is noticed.
TEST(Quant, LossIsBounded) {
  const struct {
    const char* name;
    double limit;
  } kLimits[] = {{"F32", 0},      {"F16", 3e-4},   {"BF16", 2e-3},  {"Q8_0", 0.006}, {"Q6_K", 0.0195}, {"Q5_K", 0.04},
                 {"Q5_1", 0.042}, {"Q5_0", 0.047}, {"Q4_K", 0.079}, {"Q4_1", 0.086}, {"Q4_0", 0.095}};
  ASSERT_EQ(std::size(kLimits), all_formats().size());
  for (const auto& limit : kLimits) {
    const Format* f = find_format(limit.name);
    ASSERT_NE(f, nullptr);
    const double loss = relative_rms(*f, normal(64 * 1024, 0.02f, 7));
    RecordProperty(limit.name, std::to_string(loss));
    EXPECT_LE(loss, limit.limit) << limit.name;
  }
}

// Blocks that have broken quantisers before: constant, zero, one outlier, one-sided, tiny, huge.
TEST(Quant, OddBlocksStayFinite) {
  std::vector<std::vector<float>> cases(8, std::vector<float>(256, 0.0f));
  cases[1].assign(256, 3.5f);
  cases[2].assign(256, -3.5f);
  cases[3][77] = -100.0f;
  for (int i = 0; i < 256; ++i) {
    cases[4][i] = 1.0f + float(i) / 256;
    cases[5][i] = -1.0f - float(i) / 256;
    cases[6][i] = (i % 3 - 1) * 1e-41f;
    cases[7][i] = (i % 3 - 1) * 1e30f;
  }
  for (const Format* f : all_formats()) {
    for (size_t c = 0; c < cases.size(); ++c) {
      if (c == 7 && f->type == Type::f16) continue;  // past its range: infinity is right
      const size_t n_blocks = 256 / f->block_size;
      std::vector<uint8_t> blocks(n_blocks * f->block_bytes);
      std::vector<float> y(256);
      f->quantize(cases[c].data(), blocks.data(), n_blocks);
      f->dequantize(blocks.data(), y.data(), n_blocks);
      for (int i = 0; i < 256; ++i) {
        ASSERT_TRUE(std::isfinite(y[i])) << f->name << " case " << c;
        if (c < 6) {
          ASSERT_NEAR(y[i], cases[c][i], 0.08 * std::max(1.0f, std::fabs(cases[c][i]))) << f->name << " case " << c;
        }
      }
    }
  }
}

TEST(Quant, ScalePackingRoundTrips) {
  std::mt19937 engine(3);
  for (int n = 0; n < 200; ++n) {
    uint8_t scale[8], min[8], packed[12], scale2[8], min2[8];
    for (int j = 0; j < 8; ++j) {
      scale[j] = engine() % 64;
      min[j] = engine() % 64;
    }
    pack_scales(scale, min, packed);
    unpack_scales(packed, scale2, min2);
    EXPECT_EQ(std::memcmp(scale, scale2, 8), 0);
    EXPECT_EQ(std::memcmp(min, min2, 8), 0);
  }
}

}  // namespace
}  // namespace ponder::quant
