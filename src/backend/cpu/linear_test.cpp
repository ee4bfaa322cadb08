// The contract of docs/numerics.md, "Linear layers": packing keeps every bit, all instruction sets
// and batch sizes give the same bits, and those agree with a double evaluation of the quantised
// numbers.
#include "backend/cpu/linear.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "backend/cpu/isa/linear_kernels.h"
#include "base/half.h"

namespace ponder::backend::cpu {
namespace {

constexpr Form kAllForms[] = {Form::i8x32, Form::i8x32r1, Form::i14x256, Form::f32};

/// 64-byte aligned bytes, filled with a pattern so that what is read without being written shows.
struct Bytes {
  explicit Bytes(uint64_t n) : storage(n + 64, 0xA5) {}
  uint8_t* data() {
    return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(storage.data()) + 63) & ~uintptr_t(63));
  }
  std::vector<uint8_t> storage;
};

struct Weights {
  const quant::Format* format;
  int64_t rows, columns;
  std::vector<uint8_t> data;
  std::vector<float> values;  // dequantised
};

/// Half the blocks from random floats, half from random bytes (every bit pattern but scales that
/// are not finite).
Weights random_weights(const quant::Format& format, int64_t rows, int64_t columns, std::mt19937& rng) {
  Weights w{&format, rows, columns, {}, std::vector<float>(size_t(rows * columns))};
  std::normal_distribution<float> normal(0.f, 0.1f);
  for (auto& v : w.values) v = normal(rng);
  w.data.resize(size_t(rows) * format.row_bytes(uint64_t(columns)));
  const size_t n_blocks = size_t(rows * columns) / format.block_size;
  format.quantize(w.values.data(), w.data.data(), n_blocks);
  if (!format.is_float) {
    for (size_t b = 0; b < n_blocks; b += 2) {
      uint8_t* block = w.data.data() + b * format.block_bytes;
      quant::IntBlock ints;
      do {
        for (uint32_t i = 0; i < format.block_bytes; i++) block[i] = uint8_t(rng());
        format.decode_ints(block, &ints);
      } while ((ints.d & 0x7fff) > 0x4000 || (ints.dmin & 0x7fff) > 0x4000);
    }
  }
  format.dequantize(w.data.data(), w.values.data(), n_blocks);
  return w;
}

std::vector<float> random_inputs(int64_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(n));
  for (auto& v : x) v = normal(rng) * (rng() % 64 == 0 ? 20.f : 1.f);
  return x;
}

struct Packed {
  Matrix matrix;
  Bytes bytes;
};
Packed pack(const Weights& w) {
  Matrix m = Matrix::describe(*w.format, uint64_t(w.rows), uint64_t(w.columns)).value();
  Packed p{m, Bytes(m.packed_bytes())};
  m.pack(w.data, {0, m.panels()}, p.bytes.data());
  return p;
}

/// out[row of x][row of w]
std::vector<float> product(Packed& p, const std::vector<float>& x, int64_t n, Form form, isa::Level level) {
  const Matrix& m = p.matrix;
  Bytes memory(Activations::bytes(form, m.columns(), n)), scratch(m.scratch_bytes(form));
  Activations a(form, m.columns(), n, memory.data());
  a.begin(n);
  for (int64_t i = 0; i < n; i++) a.set_row(i, x.data() + i * m.columns(), level);
  std::vector<float> out(size_t(n * m.rows()), -1.f);
  multiply(m, p.bytes.data(), {0, m.panels()}, a, {out.data(), m.rows()}, scratch.data(), level);
  return out;
}

std::vector<int64_t> shapes(const quant::Format& f) {
  if (f.block_size == 256) return {256, 768, 1536};
  if (f.block_size == 32) return {32, 96, 256, 288, 480, 896};
  return {1, 2, 31, 256, 333};
}

bool supports(const Matrix& m, Form form) { return m.family() < Family::f16 || form == Form::f32; }

TEST(Linear, PackingKeepsEveryWeight) {
  std::mt19937 rng(1);
  for (const quant::Format* format : quant::all_formats()) {
    for (int64_t columns : shapes(*format)) {
      for (int64_t rows : {1, 16, 21}) {
        Weights w = random_weights(*format, rows, columns, rng);
        Packed p = pack(w);
        // As large as the file's, but for row padding and less than 64 bytes a panel.
        EXPECT_LE(p.matrix.panel_bytes(), 16 * format->row_bytes(uint64_t(columns)) + 63) << format->name;
        // A unit vector times W is a column of W, exactly.
        std::vector<float> unit(size_t(columns), 0.f);
        for (int64_t k = 0; k < columns; k += 1 + int64_t(rng() % 5)) {
          unit[size_t(k)] = 1.f;
          auto y = product(p, unit, 1, Form::f32, isa::active());
          unit[size_t(k)] = 0.f;
          for (int64_t r = 0; r < rows; r++)
            ASSERT_EQ(y[size_t(r)], w.values[size_t(r * columns + k)])
                << format->name << " " << rows << "x" << columns << " row " << r << " column " << k;
        }
      }
    }
  }
}

TEST(Linear, EveryLevelAndBatchGivesTheSameBits) {
  std::mt19937 rng(2);
  for (const quant::Format* format : quant::all_formats()) {
    for (int64_t columns : shapes(*format)) {
      const int64_t rows = 1 + int64_t(rng() % 50);
      Weights w = random_weights(*format, rows, columns, rng);
      Packed p = pack(w);
      const int64_t n_max = 19;
      std::vector<float> x = random_inputs(n_max * columns, rng);
      for (Form form : kAllForms) {
        if (!supports(p.matrix, form)) continue;
        std::vector<float> expected;  // each row alone, in plain C++
        for (int64_t i = 0; i < n_max; i++) {
          std::vector<float> one(x.begin() + i * columns, x.begin() + (i + 1) * columns);
          auto y = product(p, one, 1, form, isa::Level::scalar);
          expected.insert(expected.end(), y.begin(), y.end());
        }
        for (isa::Level level : isa::available()) {
          for (int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 19}) {
            auto y = product(p, x, n, form, level);
            for (size_t i = 0; i < y.size(); i++)
              ASSERT_EQ(std::bit_cast<uint32_t>(y[i]), std::bit_cast<uint32_t>(expected[i]))
                  << format->name << " " << rows << "x" << columns << " " << to_string(form) << " " << to_string(level)
                  << " n " << n << " input " << i / size_t(rows) << " row " << i % size_t(rows) << ": " << y[i]
                  << " against " << expected[i];
          }
        }
      }
    }
  }
}

TEST(Linear, ManyRowsAreTheSameBitsAsFew) {
  // More column groups, and more panels, than multiply() takes at once.
  std::mt19937 rng(9);
  for (const char* name : {"Q5_K", "Q6_K", "Q5_0", "Q4_1"}) {
    const quant::Format* format = quant::find_format(std::string_view(name));
    ASSERT_NE(format, nullptr) << name;
    const int64_t columns = 512, rows = 150, n = 523;
    Weights w = random_weights(*format, rows, columns, rng);
    Packed p = pack(w);
    std::vector<float> x = random_inputs(n * columns, rng);
    for (Form form : kAllForms) {
      const auto many = product(p, x, n, form, isa::active());
      for (int64_t i = 0; i < n; i += 7) {
        std::vector<float> one(x.begin() + i * columns, x.begin() + (i + 1) * columns);
        const auto alone = product(p, one, 1, form, isa::active());
        ASSERT_EQ(0, std::memcmp(alone.data(), many.data() + i * rows, sizeof(float) * size_t(rows)))
            << name << " " << to_string(form) << " row " << i;
      }
    }
  }
}

/// What a superblock's mins may add: they multiply sums of 32 inputs rounded to 16 bits, and scales
/// and mins may cancel in the weights.
double min_slack(const Weights& w, int64_t row, const std::vector<double>& v) {
  if (w.format->block_size != 256 || !w.format->has_min) return 0;
  double slack = 0;
  for (int64_t k = 0; k < w.columns; k += 256) {
    quant::IntBlock b;
    w.format->decode_ints(w.data.data() + (row * w.columns + k) / 256 * w.format->block_bytes, &b);
    double sums[8] = {}, peak = 0;
    for (int j = 0; j < 8; j++) {
      for (int i = 0; i < 32; i++) sums[j] += v[size_t(k + 32 * j + i)];
      peak = std::max(peak, std::fabs(sums[j]));
    }
    for (int j = 0; j < 8; j++)
      slack += std::fabs(double(half_to_float(b.dmin))) * b.min[j] * (peak / 65534 * 1.01 + 1e-6 * std::fabs(sums[j]));
  }
  return slack;
}

TEST(Linear, AgreesWithDoubleOnTheQuantisedInputs) {
  std::mt19937 rng(3);
  for (const quant::Format* format : quant::all_formats()) {
    for (int64_t columns : shapes(*format)) {
      const int64_t rows = 37, n = 3;
      Weights w = random_weights(*format, rows, columns, rng);
      Packed p = pack(w);
      std::vector<float> x = random_inputs(n * columns, rng);
      for (Form form : kAllForms) {
        if (!supports(p.matrix, form)) continue;
        Bytes memory(Activations::bytes(form, columns, n));
        Activations a(form, columns, n, memory.data());
        a.begin(n);
        for (int64_t i = 0; i < n; i++) a.set_row(i, x.data() + i * columns);
        auto y = product(p, x, n, form, isa::active());
        std::vector<double> v(static_cast<size_t>(columns));
        for (int64_t i = 0; i < n; i++) {
          a.row_values(i, v.data());
          for (int64_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < columns; k++) {
              const double term = v[size_t(k)] * w.values[size_t(r * columns + k)];
              sum += term;
              size += std::fabs(term);
            }
            const double slack = form == Form::f32 ? 0 : min_slack(w, r, v);
            ASSERT_NEAR(y[size_t(i * rows + r)], sum, 1e-6 * size + slack + 1e-30)
                << format->name << " " << rows << "x" << columns << " " << to_string(form) << " row " << r;
          }
        }
      }
    }
  }
}

TEST(Activations, AreAsCloseAsTheirFormSays) {
  std::mt19937 rng(4);
  for (int64_t columns : {32, 256, 480, 896}) {
    std::vector<float> x = random_inputs(columns, rng);
    std::vector<double> v(static_cast<size_t>(columns));
    for (Form form : kAllForms) {
      Bytes memory(Activations::bytes(form, columns, 1));
      Activations a(form, columns, 1, memory.data());
      a.begin(1);
      a.set_row(0, x.data());
      a.row_values(0, v.data());
      auto peak = [&](int64_t from, int64_t to) {
        double m = 0;
        for (int64_t k = from; k < std::min(to, columns); k++) m = std::max(m, std::fabs(double(x[size_t(k)])));
        return m;
      };
      for (int64_t g = 0; g < columns; g += 256) {
        int64_t best = g;
        for (int64_t b = g; b < std::min(g + 256, columns); b += 32)
          if (peak(b, b + 32) > peak(best, best + 32)) best = b;
        for (int64_t k = g; k < std::min(g + 256, columns); k++) {
          const int64_t b = k / 32 * 32;
          double bound = 0;
          if (form == Form::i14x256) bound = peak(g, g + 256) / 16256 / 2;
          if (form == Form::i8x32 || form == Form::i8x32r1) bound = peak(b, b + 32) / 127 / 2;
          if (form == Form::i8x32r1 && b == best) bound /= 254;
          ASSERT_NEAR(v[size_t(k)], x[size_t(k)], bound * 1.001) << to_string(form) << " column " << k;
        }
      }
    }
  }
}

TEST(Activations, AreTheSameBytesAtEveryLevelWhateverTheNumbers) {
  std::mt19937 rng(5);
  const int64_t columns = 480;
  for (Form form : kAllForms) {
    for (int round = 0; round < 60; round++) {
      const int64_t n = 1 + int64_t(rng() % 9);
      std::vector<float> x(size_t(n * columns));
      for (auto& v : x) {
        uint32_t bits = uint32_t(rng());
        if (round % 3 == 0) bits = bits & 0x807fffffu;                  // denormals
        if (round % 3 == 1) bits = (bits & 0x87ffffffu) | 0x38000000u;  // ordinary sizes
        v = std::bit_cast<float>(bits);                                 // anything, NaN and infinity too
        if (round % 5 == 0) v = 0;
      }
      std::vector<uint8_t> expected;
      for (isa::Level level : isa::available()) {
        const uint64_t size = Activations::bytes(form, columns, n);
        Bytes memory(size);
        std::memset(memory.data(), 0, size);
        Activations a(form, columns, n, memory.data());
        a.begin(n);
        for (int64_t i = 0; i < n; i++) a.set_row(i, x.data() + i * columns, level);
        std::vector<uint8_t> bytes(memory.data(), memory.data() + size);
        if (expected.empty()) expected = bytes;
        ASSERT_EQ(bytes, expected) << to_string(form) << " " << to_string(level) << " round " << round;
      }
    }
  }
}

TEST(Linear, ANumberThatIsNotFiniteShowsInItsRowOnly) {
  std::mt19937 rng(6);
  for (const char* name : {"Q4_K", "Q6_K", "Q8_0", "Q5_1", "F16"}) {
    const quant::Format* format = quant::find_format(std::string_view(name));
    ASSERT_NE(format, nullptr) << name;
    Weights w = random_weights(*format, 20, 512, rng);
    Packed p = pack(w);
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      std::vector<float> x = random_inputs(3 * 512, rng);
      x[512 + 100] = bad;
      for (Form form : kAllForms) {
        if (!supports(p.matrix, form)) continue;
        auto y = product(p, x, 3, form, isa::active());
        for (size_t r = 0; r < 20; r++) {
          EXPECT_TRUE(std::isfinite(y[r])) << name;
          EXPECT_FALSE(std::isfinite(y[20 + r])) << name << " " << to_string(form);
          EXPECT_TRUE(std::isfinite(y[40 + r])) << name;
        }
      }
    }
  }
}

TEST(Linear, StoresWithBiasAndAddsInPlace) {
  std::mt19937 rng(7);
  const quant::Format* format = quant::find_format("q8_0");
  Weights w = random_weights(*format, 50, 64, rng);
  Packed p = pack(w);
  std::vector<float> x = random_inputs(5 * 64, rng), bias = random_inputs(50, rng), old = random_inputs(5 * 60, rng);
  auto plain = product(p, x, 5, Form::i8x32, isa::active());
  Bytes memory(Activations::bytes(Form::i8x32, 64, 5)), scratch(p.matrix.scratch_bytes(Form::i8x32));
  Activations a(Form::i8x32, 64, 5, memory.data());
  a.begin(5);
  for (int64_t i = 0; i < 5; i++) a.set_row(i, x.data() + i * 64);
  for (bool with_bias : {false, true}) {
    for (bool add : {false, true}) {
      // Panel by panel, as threads would, into rows of 60.
      std::vector<float> out = old;
      for (int64_t panel = 0; panel < p.matrix.panels(); panel++) {
        Output o{out.data() + panel * kPanelRows, 60, with_bias ? bias.data() + panel * kPanelRows : nullptr, add};
        multiply(p.matrix, p.bytes.data(), {panel, panel + 1}, a, o, scratch.data());
      }
      for (size_t i = 0; i < 5; i++) {
        for (size_t r = 0; r < 60; r++) {
          float expected = old[i * 60 + r];
          if (r < 50) {
            const float v = plain[i * 50 + r] + (with_bias ? bias[r] : 0.f);
            expected = add ? expected + v : v;
          }
          ASSERT_EQ(out[i * 60 + r], expected) << i << " " << r;
        }
      }
    }
  }
}

TEST(Linear, AFormatUnknownToThePackerGoesThroughItsCanonicalForm) {
  std::mt19937 rng(8);
  for (const quant::Format* format : quant::all_formats()) {
    if (format->is_float) continue;
    quant::Format other = *format;
    other.type = quant::Type(200);
    for (int64_t columns : shapes(*format)) {
      Weights w = random_weights(*format, 18, columns, rng);
      Packed a = pack(w);
      w.format = &other;
      Packed b = pack(w);
      ASSERT_EQ(a.matrix.family(), b.matrix.family());
      ASSERT_EQ(0, std::memcmp(a.bytes.data(), b.bytes.data(), a.matrix.packed_bytes())) << format->name;
    }
    // And one that is of no family is multiplied as floats.
    other.bits = 3;
    Weights w = random_weights(*format, 18, 256, rng);
    w.format = &other;
    Packed c = pack(w);
    EXPECT_EQ(c.matrix.family(), Family::f32);
    EXPECT_EQ(form_for(other, Precision::fast, Role::ordinary), Form::f32);
    std::vector<float> unit(256, 0.f);
    unit[77] = 1.f;
    auto y = product(c, unit, 1, Form::f32, isa::active());
    for (size_t r = 0; r < 18; r++) EXPECT_EQ(y[r], w.values[r * 256 + 77]);
  }
}

TEST(Linear, RefusesShapesThatDoNotFit) {
  const quant::Format* q4 = quant::find_format("q4_k");
  EXPECT_FALSE(Matrix::describe(*q4, 10, 0).ok());
  EXPECT_FALSE(Matrix::describe(*q4, 0, 256).ok());
  EXPECT_FALSE(Matrix::describe(*q4, 10, 100).ok());
  EXPECT_FALSE(Matrix::describe(*q4, uint64_t(1) << 40, uint64_t(1) << 40).ok());
  model::Tensor t;
  t.name = "blk.0.ffn_up.weight";
  EXPECT_FALSE(Matrix::describe(t).ok());
  std::vector<uint8_t> data(q4->row_bytes(512) * 3);
  t.format = q4;
  t.rows = 3;
  t.columns = 512;
  t.data = data;
  EXPECT_TRUE(Matrix::describe(t).ok());
  t.rows = 4;
  auto refused = Matrix::describe(t);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("blk.0.ffn_up.weight"), std::string::npos);
}

TEST(Linear, FormsOfPrecisions) {
  const quant::Format& q = *quant::find_format("q4_k");
  const quant::Format& f = *quant::find_format("f16");
  EXPECT_EQ(form_for(q, Precision::fast, Role::sensitive), Form::i8x32);
  EXPECT_EQ(form_for(q, Precision::standard, Role::ordinary), Form::i8x32r1);
  EXPECT_EQ(form_for(q, Precision::standard, Role::sensitive), Form::i14x256);
  EXPECT_EQ(form_for(q, Precision::exact, Role::ordinary), Form::f32);
  EXPECT_EQ(form_for(f, Precision::fast, Role::ordinary), Form::f32);
}

}  // namespace
}  // namespace ponder::backend::cpu
