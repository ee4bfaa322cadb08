// What all backends share: names of modes, and the check of a batch. A bad batch is refused here,
// before a device sees it, with the row and the reason; past this point backends rely on it.
#include "backend/backend.h"

#include <algorithm>

namespace ponder::backend {
namespace {

Error bad(const std::string& what) { return Error{ErrorCode::invalid_argument, "batch: " + what}; }

std::string row_name(size_t i, const Row& r) {
  return "row " + std::to_string(i) + " (token " + std::to_string(r.token) + ", position " +
         std::to_string(r.position) + ")";
}

}  // namespace

const char* to_string(Precision precision) {
  switch (precision) {
    case Precision::standard:
      return "standard";
    case Precision::fast:
      return "fast";
    case Precision::exact:
      return "exact";
  }
  return "unknown";
}

std::optional<Precision> parse_precision(std::string_view name) {
  for (Precision p : {Precision::standard, Precision::fast, Precision::exact})
    if (name == to_string(p)) return p;
  return std::nullopt;
}

const char* to_string(KvFormat format) {
  switch (format) {
    case KvFormat::f16:
      return "f16";
    case KvFormat::f32:
      return "f32";
    case KvFormat::q8:
      return "q8";
  }
  return "unknown";
}

std::optional<KvFormat> parse_kv_format(std::string_view name) {
  for (KvFormat f : {KvFormat::f16, KvFormat::f32, KvFormat::q8})
    if (name == to_string(f)) return f;
  if (name == "q8_0") return KvFormat::q8;
  return std::nullopt;
}

Result<void> validate(const Batch& batch, const model::ModelSpec& spec, const PlanOptions& options) {
  const auto& rows = batch.rows;
  if (rows.empty()) return bad("it has no rows");
  if (rows.size() > size_t(options.max_batch_rows))
    return bad(std::to_string(rows.size()) + " rows, but this plan takes at most " +
               std::to_string(options.max_batch_rows));
  int outputs = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    if (r.sequence == nullptr) return bad(row_name(i, r) + " has no sequence");
    if (r.token < 0 || r.token >= spec.vocab_size)
      return bad(row_name(i, r) + ": token ids of this model go from 0 to " + std::to_string(spec.vocab_size - 1));
    const bool first = i == 0 || rows[i - 1].sequence != r.sequence;
    // No set: this runs in every step, over a few rows, and must not allocate.
    const auto is_same = [&](const Row& earlier) { return earlier.sequence == r.sequence; };
    if (first && std::any_of(rows.begin(), rows.begin() + std::ptrdiff_t(i), is_same))
      return bad(row_name(i, r) + ": rows of a sequence must be consecutive");
    const int expected = first ? r.sequence->length() : rows[i - 1].position + 1;
    if (r.position != expected) return bad(row_name(i, r) + ": expected position " + std::to_string(expected));
    if (size_t(r.position) >= r.sequence->pages().size() * kv::kPageTokens)
      return bad(row_name(i, r) + ": no room reserved in its sequence");
    if (r.sampling != nullptr && r.sampling->params == nullptr)
      return bad(row_name(i, r) + " asks for a draw without parameters");
    if (r.sampling != nullptr && !r.sampling->mask.empty() &&
        r.sampling->mask.size() < size_t(spec.vocab_size + 31) / 32)
      return bad(row_name(i, r) + " has a token mask of " + std::to_string(r.sampling->mask.size()) +
                 " words for a vocabulary of " + std::to_string(spec.vocab_size));
    if (r.sampling != nullptr || r.want_logits) ++outputs;
  }
  if (outputs > options.max_output_rows)
    return bad(std::to_string(outputs) + " rows ask for output, but this plan gives at most " +
               std::to_string(options.max_output_rows));
  return {};
}

}  // namespace ponder::backend
