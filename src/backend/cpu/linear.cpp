// Matrix and multiply(): which kernel a panel meets which column group with. All of them give the
// same bits, so the choice is about speed only: from 16 rows on, formats that are dear to decode are
// spread out to bytes a group of 256 columns at a time, which stays in the first-level cache while all
// rows pass (a whole panel of bytes streamed from the second level at its limit and cost a third of the speed).
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

constexpr int kTile = kMaxColumns * kPanelRows;  ///< floats of a tile
constexpr int kMostTiles = 512;                  ///< of multiply_grouped(): 256 KiB, in L2 beside the activations

/// Scratch of multiply_grouped().
struct Workspace {
  UnpackedGroup group;
  alignas(64) float floats[kGroup * kPanelRows];
  alignas(64) float tiles[kMostTiles * kTile];
  Activations::Group rows[kMostTiles];
};

/// How many panels of `bytes` may stay in L2 beside a group of activations.
int block_panels(uint64_t bytes) {
  constexpr uint64_t kBudget = 256 << 10;  // of 1 MiB, beside up to 200 KiB of activations
  return int(std::clamp<uint64_t>(kBudget / bytes, 1, 8));
}

/// n columns of kRows (0: `rows`) values each, 16 apart, to where the caller wants them. Loops of known length and without
/// conditions are vectors.
template <bool kBias, bool kAdd, int kRows>
void store_columns(const float* tile, int n, int rows, const float* bias, float* to, int64_t stride) {
  const int m = kRows > 0 ? kRows : rows;
  for (int c = 0; c < n; c++, tile += kPanelRows, to += stride) {
    float v[kPanelRows];  // `to` and the rest might overlap, for all that a compiler knows
    for (int r = 0; r < m; r++) v[r] = kBias ? tile[r] + bias[r] : tile[r];
    for (int r = 0; r < m; r++) v[r] = kAdd ? to[r] + v[r] : v[r];
    for (int r = 0; r < m; r++) to[r] = v[r];
  }
}

template <bool kBias, bool kAdd>
void store_columns(const float* tile, int n, int rows, const float* bias, float* to, int64_t stride) {
  if (rows == kPanelRows)
    store_columns<kBias, kAdd, kPanelRows>(tile, n, rows, bias, to, stride);
  else
    store_columns<kBias, kAdd, 0>(tile, n, rows, bias, to, stride);
}

/// A tile of `n` columns (of 16 values each) to where the caller wants it.
void store(const float* tile, int n, int rows, int64_t row, int64_t column, const Output& out) {
  float* to = out.data + column * out.stride + row;
  const float* bias = out.bias ? out.bias + row : nullptr;
  if (bias != nullptr && out.add) return store_columns<true, true>(tile, n, rows, bias, to, out.stride);
  if (bias != nullptr) return store_columns<true, false>(tile, n, rows, bias, to, out.stride);
  if (out.add) return store_columns<false, true>(tile, n, rows, bias, to, out.stride);
  store_columns<false, false>(tile, n, rows, bias, to, out.stride);
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

uint64_t Matrix::scratch_bytes(Form) const { return is_float(family_) ? 64 : sizeof(Workspace); }

namespace {

struct Panel {
  const uint8_t* packed;
  int64_t row;  ///< in the output
  int rows;     ///< that exist
};
Panel panel_at(const Matrix& w, const uint8_t* packed, PanelRange panels, int64_t p) {
  return {packed + uint64_t(p) * w.panel_bytes(), (p - panels.first) * kPanelRows,
          int(std::min<int64_t>(kPanelRows, w.rows() - p * kPanelRows))};
}

/// Even and odd sums of a float tile become the result.
void add_odd(float* even, const float* odd, int width) {
  for (int i = 0; i < width * kPanelRows; i++) even[i] += odd[i];
}

/// F16, BF16 and F32 weights.
void multiply_floats(const isa::LinearKernels& kernels, const Matrix& w, const uint8_t* packed, PanelRange panels,
                     const Activations& x, const Output& out) {
  const isa::FloatKernel* kernel = kernels.floats[int(w.family()) - int(Family::f16)];
  for (int64_t p = panels.first; p < panels.last; p++) {
    const Panel at = panel_at(w, packed, panels, p);
    for (int i = 0; i < x.n_groups(); i++) {
      const Activations::Group g = x.group(i);
      alignas(64) float even[kTile] = {}, odd[kTile] = {};
      kernel[std::countr_zero(unsigned(g.width))](at.packed, w.columns(), g.data, even, odd);
      add_odd(even, odd, g.width);
      store(even, g.rows, at.rows, at.row, g.first_row, out);
    }
  }
}

/// Column groups [first, last), group of weights by group, for some panels at once: what is unpacked (and, for float
/// activations, made floats) stays in L1 for all rows, the rows' records of 256 columns stay in L2 for all panels.
void multiply_grouped(const isa::LinearKernels& kernels, const Matrix& w, const uint8_t* packed, PanelRange panels,
                      const Activations& x, int first, int last, const Output& out, Workspace& work) {
  const int family = int(w.family());
  const bool floats = x.form() == Form::f32;
  const int tile = floats ? 2 * kTile : kTile, most = floats ? kMostTiles / 2 : kMostTiles;
  for (; first < last; first += most) {
    const int n = std::min(last - first, most);
    // Few rows: memory is the limit, and its addresses ascend.
    const int block = n < 4 ? 1 : std::min(8, most / n);
    for (int i = 0; i < n; i++) work.rows[i] = x.group(first + i);
    for (int64_t p0 = panels.first; p0 < panels.last; p0 += block) {
      const int n_panels = int(std::min<int64_t>(block, panels.last - p0));
      std::memset(work.tiles, 0, sizeof(float) * size_t(n_panels * n * tile));
      for (int64_t k = 0; k < w.columns(); k += kGroup) {
        const int64_t columns = std::min<int64_t>(kGroup, w.columns() - k);
        for (int p = 0; p < n_panels; p++) {
          kernels.unpack[family](panel_at(w, packed, panels, p0 + p).packed, w.columns(), k / kGroup, &work.group);
          if (floats) kernels.dequantize(isa::kind_of(w.family()), work.group, columns, work.floats);
          float* to = work.tiles + p * n * tile;
          for (int i = 0; i < n; i++, to += tile) {
            const Activations::Group& g = work.rows[i];
            const uint8_t* record = g.data + uint64_t(k / kGroup) * g.record_bytes;
            if (floats)
              kernels.floats[int(Family::f32) - int(Family::f16)][std::countr_zero(unsigned(g.width))](
                  reinterpret_cast<const uint8_t*>(work.floats), columns, record, to, to + kTile);
            else
              kernels.group[family][int(x.form())](work.group, int(columns / 32), record, to);
          }
        }
      }
      for (int p = 0; p < n_panels; p++) {
        const Panel at = panel_at(w, packed, panels, p0 + p);
        float* from = work.tiles + p * n * tile;
        for (int i = 0; i < n; i++, from += tile) {
          const Activations::Group& g = work.rows[i];
          if (floats) add_odd(from, from + kTile, g.width);
          store(from, g.rows, at.rows, at.row, g.first_row, out);
        }
      }
    }
  }
}

/// Column groups [first, last) straight from the packed panels.
void multiply_packed(const isa::LinearKernels& kernels, const Matrix& w, const uint8_t* packed, PanelRange panels,
                     const Activations& x, int first, int last, const Output& out) {
  // With many column groups, a few panels stay in L2 while each group passes once; with few, each panel is read once
  // while the groups stay.
  const int block = last - first < 4 ? 1 : block_panels(w.panel_bytes());
  alignas(64) float tile[kTile];
  for (int64_t p0 = panels.first; p0 < panels.last; p0 += block) {
    const int64_t end = std::min(panels.last, p0 + block);
    for (int i = first; i < last; i++) {
      const Activations::Group g = x.group(i);
      const isa::PanelKernel kernel =
          kernels.panel[int(w.family())][int(x.form())][std::countr_zero(unsigned(g.width))];
      for (int64_t p = p0; p < end; p++) {
        const Panel at = panel_at(w, packed, panels, p);
        kernel(at.packed, w.columns(), g.data, tile);
        store(tile, g.rows, at.rows, at.row, g.first_row, out);
      }
    }
  }
}

}  // namespace

void multiply(const Matrix& w, const uint8_t* packed, PanelRange panels, const Activations& x, const Output& out,
              uint8_t* scratch, isa::Level level) {
  const isa::LinearKernels& kernels = isa::linear_kernels(level);
  if (is_float(w.family())) return multiply_floats(kernels, w, packed, panels, x, out);
  auto& work = *reinterpret_cast<Workspace*>(scratch);
  const int all = x.n_groups();
  if (x.form() == Form::f32) return multiply_grouped(kernels, w, packed, panels, x, 0, all, out, work);

  // Whole groups of 8 rows may be worth unpacking for; what is left over never is.
  int grouped = 0;
  const isa::PanelKernel wide = kernels.panel[int(w.family())][int(x.form())][3];
  if (kernels.group[int(w.family())][int(x.form())] && (wide == nullptr || x.n_rows() >= 2 * kMaxColumns))
    while (grouped < all && x.group(grouped).width == kMaxColumns) grouped++;
  if (grouped > 0) multiply_grouped(kernels, w, packed, panels, x, 0, grouped, out, work);
  if (grouped < all) multiply_packed(kernels, w, packed, panels, x, grouped, all, out);
}

}  // namespace ponder::backend::cpu
