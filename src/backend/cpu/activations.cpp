// Activations: where rows lie. Rows go in groups of 8; what is left over takes the smallest groups
// whose kernels cost least: 1, 2, 4 (also for 3), 4 + 1, 4 + 2, 8 (also for 7). The arithmetic is
// quantize() of isa/linear_portable.inc.
#include <algorithm>
#include <cstring>

#include "backend/cpu/isa/linear_kernels.h"
#include "backend/cpu/linear.h"
#include "base/checked.h"

namespace ponder::backend::cpu {
namespace {

template <int W>
uint64_t record_bytes(Form form) {
  switch (form) {
    case Form::f32:
      return sizeof(float) * kGroup * W;
    case Form::i8x32:
      return sizeof(isa::Record<W, Form::i8x32>);
    case Form::i8x32r1:
      return sizeof(isa::Record<W, Form::i8x32r1>);
    default:
      return sizeof(isa::Record<W, Form::i14x256>);
  }
}

/// Bytes of 256 columns of `width` rows.
uint64_t record_bytes(Form form, int width) {
  switch (width) {
    case 1:
      return record_bytes<1>(form);
    case 2:
      return record_bytes<2>(form);
    case 4:
      return record_bytes<4>(form);
    default:
      return record_bytes<8>(form);
  }
}

/// Bytes of a group of `width` rows.
uint64_t group_bytes(Form form, int64_t columns, int width) {
  if (form == Form::f32) return align_up(uint64_t(columns) * sizeof(float) * unsigned(width), 64);
  return uint64_t((columns + kGroup - 1) / kGroup) * record_bytes(form, width);
}

/// Widths of the groups of the last n < 8 rows; 0 ends.
constexpr int kTails[8][2] = {{0, 0}, {1, 0}, {2, 0}, {4, 0}, {4, 0}, {4, 1}, {4, 2}, {8, 0}};

template <int W, Form F>
void values(const uint8_t* data, int c, int64_t columns, double* out) {
  const auto* r = reinterpret_cast<const isa::Record<W, F>*>(data);
  for (int64_t k = 0; k < columns; k++) {
    const auto& x = r[k / kGroup];
    const int i = int(k % kGroup), j = i / 32;
    const int q = x.q[i / 4][c][i % 4];
    if constexpr (F == Form::i14x256) {
      out[k] = double(x.scale[0][c]) * (128 * q + x.low[i / 4][c][i % 4]);
    } else {
      out[k] = double(x.scale[j][c]) * q;
      if constexpr (F == Form::i8x32r1)
        if (x.residual_block[c] == j) out[k] += double(x.residual_scale[c]) * x.residual[i % 32 / 4][c][i % 4];
    }
  }
}

template <int W>
void values(Form form, const uint8_t* data, int c, int64_t columns, double* out) {
  switch (form) {
    case Form::i8x32:
      return values<W, Form::i8x32>(data, c, columns, out);
    case Form::i8x32r1:
      return values<W, Form::i8x32r1>(data, c, columns, out);
    case Form::i14x256:
      return values<W, Form::i14x256>(data, c, columns, out);
    case Form::f32:
      for (int64_t k = 0; k < columns; k++) out[k] = reinterpret_cast<const float*>(data)[k * W + c];
  }
}

}  // namespace

uint64_t Activations::bytes(Form form, int64_t columns, int64_t max_rows) {
  return uint64_t((max_rows + kMaxColumns - 1) / kMaxColumns) * group_bytes(form, columns, kMaxColumns);
}

Activations::Activations(Form form, int64_t columns, int64_t max_rows, uint8_t* memory)
    : form_(form),
      columns_(columns),
      max_rows_(max_rows),
      memory_(memory),
      wide_bytes_(group_bytes(form, columns, kMaxColumns)) {}

void Activations::begin(int64_t n_rows) {
  n_rows_ = n_rows;
  const int* tail = kTails[n_rows % kMaxColumns];
  n_groups_ = int(n_rows / kMaxColumns) + (tail[0] != 0) + (tail[1] != 0);
  // A group that is wider than the rows left computes on zeros there, not on what the memory held.
  const Group last = n_groups_ ? group(n_groups_ - 1) : Group{};
  if (last.rows < last.width) std::memset(const_cast<uint8_t*>(last.data), 0, group_bytes(form_, columns_, last.width));
}

Activations::Group Activations::group(int index) const {
  const int64_t full = n_rows_ / kMaxColumns;
  Group g;
  g.data = memory_ + uint64_t(std::min<int64_t>(index, full)) * wide_bytes_;
  g.first_row = std::min<int64_t>(index, full) * kMaxColumns;
  if (index < full) {
    g.width = g.rows = kMaxColumns;
    g.record_bytes = record_bytes(form_, g.width);
    return g;
  }
  const int* tail = kTails[n_rows_ % kMaxColumns];
  g.width = tail[index - full];
  if (index > full) {
    g.data += group_bytes(form_, columns_, tail[0]);
    g.first_row += tail[0];
  }
  g.record_bytes = record_bytes(form_, g.width);
  g.rows = int(std::min<int64_t>(g.width, n_rows_ - g.first_row));
  return g;
}

Activations::Place Activations::place(int64_t index) const {
  const int64_t full = n_rows_ / kMaxColumns;
  int i = int(std::min(index / kMaxColumns, full));
  if (i == full && index - full * kMaxColumns >= kTails[n_rows_ % kMaxColumns][0]) i++;
  const Group g = group(i);
  return {const_cast<uint8_t*>(g.data), g.width, int(index - g.first_row), g.record_bytes};
}

void Activations::set_row(int64_t index, const float* x, int64_t first, int64_t last, isa::Level level) {
  const Place p = place(index);
  isa::linear_kernels(level).quantize(form_, x + first * kGroup, std::min(columns_, last * kGroup) - first * kGroup,
                                      p.group + uint64_t(first) * p.record_bytes, p.width, p.column);
}

void Activations::row_values(int64_t index, double* out) const {
  const Place p = place(index);
  switch (p.width) {
    case 1:
      return values<1>(form_, p.group, p.column, columns_, out);
    case 2:
      return values<2>(form_, p.group, p.column, columns_, out);
    case 4:
      return values<4>(form_, p.group, p.column, columns_, out);
    default:
      return values<8>(form_, p.group, p.column, columns_, out);
  }
}

}  // namespace ponder::backend::cpu
