// Linear layers on the CPU: y = W x (+ bias) for one to many columns x.
//
//   Matrix       how a weight tensor of the file is laid out for the kernels: panels of 16 rows,
//   addresses ascending,
//                every bit as in the file. It describes and packs; the bytes belong to the caller.
//   Activations  up to n rows of inputs, quantised to the form the kernels want, in the caller's
//   memory too. multiply     some panels times all rows of some Activations.
//
// A row's result never depends on the other rows, on how many there are, on the panels or threads
// it was computed by, or on the instruction set (docs/numerics.md, "Linear layers"; that page is
// the contract, linear_test.cpp its proof). Nothing here allocates or locks: a plan asks for sizes
// first (the *_bytes functions) and cuts them from its arenas. All pointers to packed weights,
// activations and scratch must be 64-byte aligned.
//
// One step of a plan on n threads, with barriers between:
//   x.begin(n_rows);  threads: x.set_row(i, input) for their rows (whole groups of 8);
//   threads: multiply(w, weights, {first panel, last panel of the thread}, x, {out, rows}, scratch
//   of the thread)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/isa/isa.h"
#include "backend/cpu/linear_types.h"
#include "base/result.h"
#include "model/model.h"
#include "quant/format.h"

namespace ponder::backend::cpu {

const char* to_string(Form form);

/// q, k, v, the attention's output and the head earn more accurate activations (cpu-measured.md
/// section 4).
enum class Role : uint8_t { ordinary, sensitive };

/// The form a weight tensor of `format` wants. Tensors that want the same form can share
/// Activations.
Form form_for(const quant::Format& format, Precision precision, Role role);
/// What the forms of a precision are called in receipts: "cpu.i8x32r1", "cpu.i8x32", "cpu.f32".
const char* numerics_id(Precision precision);

/// Panels [first, last).
struct PanelRange {
  int64_t first = 0, last = 0;
};

/// Shape and packed layout of a weight matrix. A small value; copies are cheap.
class Matrix {
 public:
  Matrix() = default;
  /// Checks the tensor's sizes against each other. Nothing is read from its data.
  static Result<Matrix> describe(const model::Tensor& tensor);
  static Result<Matrix> describe(const quant::Format& format, uint64_t rows, uint64_t columns);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  Family family() const { return family_; }
  const quant::Format& format() const { return *format_; }
  int64_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  uint64_t panel_bytes() const { return panel_bytes_; }  ///< a multiple of 64
  uint64_t packed_bytes() const { return panel_bytes_ * uint64_t(panels()); }

  /// Packs panels [first, last) of the tensor's `data` into `packed` (the place of panel 0).
  /// Distinct panels may be packed by several threads at once. Missing rows of the last panel
  /// become zeros.
  void pack(std::span<const uint8_t> data, PanelRange panels, uint8_t* packed) const;

  /// Scratch that multiply() needs per thread for inputs of this form, a multiple of 64.
  uint64_t scratch_bytes(Form form) const;

 private:
  const quant::Format* format_ = nullptr;
  Family family_ = Family::f32;
  int64_t rows_ = 0, columns_ = 0;
  uint64_t panel_bytes_ = 0;
};

/// Rows of inputs for multiply(), one form. The memory is the caller's.
/// Rows are stored in column groups of 8, 4, 2 or 1, fixed by begin(). Rows of one group share cache lines, so
/// threads best divide whole groups of 8 (rows 8g .. 8g+7), and where there are few, records (256 columns) of all rows.
class Activations {
 public:
  Activations() = default;
  /// Bytes for up to `max_rows` rows of `columns`, a multiple of 64.
  static uint64_t bytes(Form form, int64_t columns, int64_t max_rows);
  /// `memory`: bytes(form, columns, max_rows), 64-byte aligned.
  Activations(Form form, int64_t columns, int64_t max_rows, uint8_t* memory);

  /// From here on there are `n_rows` rows (1 .. max_rows); all must be set before multiply().
  void begin(int64_t n_rows);
  /// Quantises `columns` floats into row `index`. The bits depend on these floats only.
  void set_row(int64_t index, const float* x, isa::Level level = isa::active()) {
    set_row(index, x, 0, records(), level);
  }
  /// The same for records [first, last) only; `x` is the whole row.
  void set_row(int64_t index, const float* x, int64_t first, int64_t last, isa::Level level = isa::active());
  int64_t records() const { return (columns_ + kGroup - 1) / kGroup; }
  /// Row `index` as the kernels see it, for tests: the sum of hi, residual and lo parts in double.
  void row_values(int64_t index, double* out) const;

  Form form() const { return form_; }
  int64_t columns() const { return columns_; }
  int64_t n_rows() const { return n_rows_; }
  int64_t max_rows() const { return max_rows_; }

  /// Column groups, for multiply(): `width` rows from `first_row` on, at `data`. Widths are 8, 4, 2
  /// or 1; a width may exceed the rows left (3 rows are a group of 4), the rest is zero.
  struct Group {
    int64_t first_row = 0;
    int width = 0, rows = 0;
    const uint8_t* data = nullptr;
    uint64_t record_bytes = 0;  ///< of 256 columns
  };
  int n_groups() const { return n_groups_; }
  Group group(int index) const;

 private:
  struct Place {
    uint8_t* group;
    int width, column;
    uint64_t record_bytes;
  };
  Place place(int64_t index) const;

  Form form_ = Form::f32;
  int64_t columns_ = 0, max_rows_ = 0, n_rows_ = 0;
  int n_groups_ = 0;
  uint8_t* memory_ = nullptr;
  uint64_t wide_bytes_ = 0;  // of a group of 8
};

/// Where results go. The value of output row r (of the matrix) and input row i is stored at
///   data[i * stride + (r - 16 * first panel)]
/// so `data` points at the place of the first panel's first row. Rows past the matrix' end are not
/// stored.
struct Output {
  float* data = nullptr;
  int64_t stride = 0;
  const float* bias = nullptr;  ///< of the first panel's first row on; null: none
  bool add = false;             ///< data += W x (+ bias): the residual stream
};

/// Panels `panels` of the packed matrix `w` times all rows of `x`; x.form() must be f32 for float
/// families and may be any form otherwise, x.columns() == w.columns(). `scratch`:
/// w.scratch_bytes(x.form()), one per thread.
void multiply(const Matrix& w, const uint8_t* packed, PanelRange panels, const Activations& x, const Output& out,
              uint8_t* scratch, isa::Level level = isa::active());

}  // namespace ponder::backend::cpu
