// Matrix and multiply(): which kernel a panel meets which column group with. All of them give the
// same bits, so the choice is about speed only: from 16 rows on, formats that are dear to decode are
// spread out to bytes once per panel and reused for all column groups (cpu-measured.md section 3).
// Packing is in linear_pack.cpp, activations in activations.cpp, the arithmetic in
// isa/linear_*.cpp, its contract in docs/numerics.md.
#include "backend/cpu/linear.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cpu/isa/linear_kernels.h"
#include "base/checked.h"

namespace ponder::backend::cpu {
namespace {

using isa::Kind;
using isa::UnpackedGroup;

bool is_float(Family f) { return f >= Family::f16; }

/// By the properties of the integer form, not by the type number: a new format that is one of these
/// is fast at once.
Family family_of(const quant::Format& f) {
  if (f.type == quant::Type::f16) return Family::f16;
  if (f.type == quant::Type::bf16) return Family::bf16;
  if (f.is_float || f.decode_ints == nullptr) return Family::f32;
  if (f.block_size == 32 && f.sub_block == 32) {
    if (f.bits == 4 && f.offset == 8 && !f.has_min) return Family::q4_0;
    if (f.bits == 4 && f.offset == 0 && f.has_min) return Family::q4_1;
    if (f.bits == 5 && f.offset == 16 && !f.has_min) return Family::q5_0;
    if (f.bits == 5 && f.offset == 0 && f.has_min) return Family::q5_1;
    if (f.bits == 8 && f.offset == 128 && !f.has_min) return Family::q8_0;
  }
  if (f.block_size == 256) {
    if (f.bits == 4 && f.sub_block == 32 && f.offset == 0 && f.has_min) return Family::q4_k;
    if (f.bits == 5 && f.sub_block == 32 && f.offset == 0 && f.has_min) return Family::q5_k;
    if (f.bits == 6 && f.sub_block == 16 && f.offset == 32 && !f.has_min) return Family::q6_k;
  }
  return Family::f32;
}

uint64_t unpacked_bytes(int64_t columns) { return uint64_t((columns + kGroup - 1) / kGroup) * sizeof(UnpackedGroup); }

/// How many panels of `bytes` may stay in L2 beside a group of activations.
int block_panels(uint64_t bytes) {
  constexpr uint64_t kBudget = 256 << 10;  // of 1 MiB, beside up to 200 KiB of activations
  return int(std::clamp<uint64_t>(kBudget / bytes, 1, 8));
}

/// A tile of `n` columns (of 16 values each) to where the caller wants it.
void store(const float* tile, int n, int rows, int64_t row, int64_t column, const Output& out) {
  const float* bias = out.bias ? out.bias + row : nullptr;
  for (int c = 0; c < n; c++, tile += kPanelRows) {
    float* to = out.data + (column + c) * out.stride + row;
    if (rows == kPanelRows && !bias && !out.add) {
      std::memcpy(to, tile, sizeof(float) * kPanelRows);
      continue;
    }
    for (int r = 0; r < rows; r++) {
      float v = tile[r];
      if (bias) v += bias[r];
      to[r] = out.add ? to[r] + v : v;
    }
  }
}

}  // namespace

const char* to_string(Form form) {
  switch (form) {
    case Form::i8x32:
      return "i8x32";
    case Form::i8x32r1:
      return "i8x32r1";
    case Form::i14x256:
      return "i14x256";
    case Form::f32:
      return "f32";
  }
  return "?";
}

Form form_for(const quant::Format& format, Precision precision, Role role) {
  if (precision == Precision::exact || is_float(family_of(format)) || family_of(format) == Family::f32)
    return Form::f32;
  if (precision == Precision::fast) return Form::i8x32;
  return role == Role::sensitive ? Form::i14x256 : Form::i8x32r1;
}

const char* numerics_id(Precision precision) {
  switch (precision) {
    case Precision::standard:
      return "cpu.i8x32r1";
    case Precision::fast:
      return "cpu.i8x32";
    case Precision::exact:
      return "cpu.f32";
  }
  return "?";
}

Result<Matrix> Matrix::describe(const quant::Format& format, uint64_t rows, uint64_t columns) {
  constexpr uint64_t kLimit = uint64_t(1) << 40;  // of weights: every size below stays far from 2^63
  const auto count = checked_mul(rows, columns);
  if (rows == 0 || columns == 0 || !count || *count > kLimit || rows > kLimit / kPanelRows)
    return Error{ErrorCode::invalid_file, "matrix of " + std::to_string(rows) + " rows and " + std::to_string(columns) +
                                              " columns: sizes must be between 1 and 2^40"};
  if (columns % format.block_size != 0)
    return Error{ErrorCode::invalid_file, "rows of " + std::to_string(columns) + " weights are not whole " +
                                              format.name + " blocks of " + std::to_string(format.block_size)};
  Matrix m;
  m.format_ = &format;
  m.family_ = family_of(format);
  m.rows_ = int64_t(rows);
  m.columns_ = int64_t(columns);
  switch (m.family_) {
    case Family::f16:
    case Family::bf16:
      m.panel_bytes_ = align_up(columns * 2 * kPanelRows, 64);
      break;
    case Family::f32:
      m.panel_bytes_ = columns * 4 * kPanelRows;
      break;
    default:
      m.panel_bytes_ = uint64_t(isa::int_panel_bytes(m.family_, m.columns_));
  }
  return m;
}

Result<Matrix> Matrix::describe(const model::Tensor& tensor) {
  if (!tensor.format) return Error{ErrorCode::internal, "a matrix that is not in the file was asked for"};
  auto m = describe(*tensor.format, tensor.rows, tensor.columns);
  if (!m) return m.error().with_context(tensor.name);
  if (tensor.data.size() != tensor.rows * tensor.format->row_bytes(tensor.columns))
    return Error{ErrorCode::invalid_file, tensor.name + ": " + std::to_string(tensor.data.size()) +
                                              " bytes of data do not make " + std::to_string(tensor.rows) +
                                              " rows of " + std::to_string(tensor.columns)};
  return m;
}

uint64_t Matrix::scratch_bytes(Form form) const {
  if (is_float(family_)) return 64;
  if (form == Form::f32) return unpacked_bytes(columns_) + uint64_t(columns_) * sizeof(float) * kPanelRows;
  return unpacked_bytes(columns_) * uint64_t(block_panels(unpacked_bytes(columns_)));
}

namespace {

/// One panel of a block: where its weights are, in the form that a kernel wants them.
struct PanelAt {
  const uint8_t* packed;
  UnpackedGroup* groups;  // scratch
  int64_t row;            // in the output
  int rows;               // that exist
};

/// A panel times every column group in float32.
void multiply_floats(const isa::LinearKernels& kernels, const Matrix& w, const PanelAt& p, const Activations& x,
                     const Output& out) {
  const uint8_t* floats = p.packed;
  Family family = w.family();
  if (!is_float(family)) {
    auto* dequantized = reinterpret_cast<float*>(reinterpret_cast<uint8_t*>(p.groups) + unpacked_bytes(w.columns()));
    kernels.unpack[int(family)](p.packed, w.columns(), p.groups);
    kernels.dequantize(isa::kind_of(family), p.groups, w.columns(), dequantized);
    floats = reinterpret_cast<const uint8_t*>(dequantized);
    family = Family::f32;
  }
  alignas(64) float tile[kMaxColumns * kPanelRows];
  for (int i = 0; i < x.n_groups(); i++) {
    const Activations::Group g = x.group(i);
    kernels.floats[int(family) - int(Family::f16)][std::countr_zero(unsigned(g.width))](floats, w.columns(), g.data,
                                                                                        tile);
    store(tile, g.rows, p.rows, p.row, g.first_row, out);
  }
}

}  // namespace

void multiply(const Matrix& w, const uint8_t* packed, PanelRange panels, const Activations& x, const Output& out,
              uint8_t* scratch, isa::Level level) {
  const isa::LinearKernels& kernels = isa::linear_kernels(level);
  const int64_t columns = w.columns();
  auto panel_at = [&](int64_t p, uint64_t slot) {
    return PanelAt{packed + uint64_t(p) * w.panel_bytes(),
                   reinterpret_cast<UnpackedGroup*>(scratch + slot * unpacked_bytes(columns)),
                   (p - panels.first) * kPanelRows, int(std::min<int64_t>(kPanelRows, w.rows() - p * kPanelRows))};
  };
  if (x.form() == Form::f32) {
    for (int64_t p = panels.first; p < panels.last; p++) multiply_floats(kernels, w, panel_at(p, 0), x, out);
    return;
  }

  const int family = int(w.family()), form = int(x.form());
  const isa::UnpackedKernel unpacked = kernels.unpacked[family][form];
  const bool unpack =
      unpacked && (x.n_rows() >= 2 * kMaxColumns || (x.n_rows() >= kMaxColumns - 1 && !kernels.panel[family][form][3]));
  // With many column groups, a few panels stay in L2 while each group passes once; with few, each panel is read once
  // while the groups stay.
  const int block = x.n_groups() < 4 ? 1 : block_panels(unpack ? unpacked_bytes(columns) : w.panel_bytes());
  alignas(64) float tile[kMaxColumns * kPanelRows];
  for (int64_t first = panels.first; first < panels.last; first += block) {
    const int64_t last = std::min(panels.last, first + block);
    if (unpack)
      for (int64_t p = first; p < last; p++)
        kernels.unpack[family](panel_at(p, 0).packed, columns, panel_at(p, uint64_t(p - first)).groups);
    for (int i = 0; i < x.n_groups(); i++) {
      const Activations::Group g = x.group(i);
      for (int64_t p = first; p < last; p++) {
        const PanelAt at = panel_at(p, uint64_t(p - first));
        if (unpack && g.width == kMaxColumns)
          unpacked(at.groups, columns, g.data, tile);
        else
          kernels.panel[family][form][std::countr_zero(unsigned(g.width))](at.packed, columns, g.data, tile);
        store(tile, g.rows, at.rows, at.row, g.first_row, out);
      }
    }
  }
}

}  // namespace ponder::backend::cpu
