// Both modes declare all tensors first and then stream them in that order, a few megabytes at a
// time.
#include "synth/synth.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "synth/vocabulary.h"
#include "synth/weights.h"

namespace ponder::synth {
namespace {

constexpr uint64_t kPieceBytes = uint64_t(4) << 20;

uint64_t rows_of(const std::vector<uint64_t>& shape) {
  uint64_t rows = 1;
  for (size_t i = 1; i < shape.size(); ++i) rows *= shape[i];
  return rows;
}

std::span<const uint8_t> as_bytes(const std::vector<float>& v) {
  return {reinterpret_cast<const uint8_t*>(v.data()), v.size() * sizeof(float)};
}

std::vector<float> small_vector(const Tensor& t, const Shape& shape, Random& random) {
  if (t.fill == Fill::rope_factors) return rope_factors(shape);
  std::vector<float> v(t.shape[0]);
  for (float& x : v) {
    const double noise = 0.1 * random.normal();
    x = float(t.fill == Fill::norm ? 1 + noise : noise);
  }
  return v;
}

}  // namespace

Result<void> write_model(const Options& options, const std::string& path) {
  PONDER_TRY(const Mix mix, find_mix(options.type));
  Shape shape = options.shape;
  std::shared_ptr<const gguf::File> vocabulary;
  if (!options.vocab_from.empty()) {
    // The tokenizer is all we need, so the head of a download will do.
    PONDER_TRY(vocabulary, gguf::File::open(options.vocab_from, {.metadata_only = true}));
    PONDER_TRY(shape.vocab, vocabulary_size(*vocabulary));
  }
  PONDER_CHECK_OK(check(shape));

  gguf::Writer writer;
  add_metadata(shape, writer);
  writer.add_u32("general.file_type", mix.file_type);
  if (vocabulary) {
    PONDER_TRY([[maybe_unused]] const uint64_t size, copy_vocabulary(*vocabulary, writer));
  } else {
    const std::string pre = !options.pre.empty() ? options.pre : shape.arch == "llama" ? "llama-bpe" : "qwen2";
    PONDER_CHECK_OK(add_own_vocabulary(shape.vocab, pre, writer));
  }

  const std::vector<Tensor> list = tensors(shape);
  std::vector<const quant::Format*> formats;
  for (const Tensor& t : list) {
    formats.push_back(&choose(mix, t.name, t.shape.size(), t.shape[0], shape.layers, shape.tied));
    writer.add_tensor(t.name, t.shape, uint32_t(formats.back()->type),
                      formats.back()->row_bytes(t.shape[0]) * rows_of(t.shape));
  }
  PONDER_CHECK_OK(writer.begin(path));
  RowPool pool(options.seed);
  std::vector<uint8_t> piece;
  for (size_t i = 0; i < list.size(); ++i) {
    const Tensor& t = list[i];
    Random random(tensor_seed(options.seed, t.name));
    if (t.fill != Fill::normal) {
      PONDER_CHECK_OK(writer.write_data(as_bytes(small_vector(t, shape, random))));
      continue;
    }
    const uint64_t row_bytes = formats[i]->row_bytes(t.shape[0]), rows = rows_of(t.shape);
    const RowPool::Chunks& chunks = pool.chunks(*formats[i], t.name, t.deviation, t.shape[0], rows);
    const uint64_t step = std::max<uint64_t>(1, kPieceBytes / row_bytes);
    for (uint64_t row = 0; row < rows; row += step) {
      piece.resize(row_bytes * std::min(step, rows - row));
      fill(chunks, random, piece);
      PONDER_CHECK_OK(writer.write_data(piece));
    }
  }
  return writer.finish();
}

Result<void> convert(const std::string& in, const std::string& out, const std::string& type) {
  PONDER_TRY(const Mix mix, find_mix(type));
  PONDER_TRY(const std::shared_ptr<const gguf::File> file, gguf::File::open(in));
  PONDER_TRY(const std::string_view arch, file->require_string("general.architecture"));
  const uint64_t n_layers = file->get_u64(std::string(arch) + ".block_count").value_or(0);
  const bool tied = file->find_tensor("output.weight") == nullptr;

  gguf::Writer writer;
  for (const auto& kv : file->metadata()) {
    const std::string_view key = kv.key;
    if (key != "general.file_type" && key != "general.quantization_version" && !key.starts_with("split.")) {
      writer.add(kv);
    }
  }
  writer.add_u32("general.file_type", mix.file_type);
  writer.add_u32("general.quantization_version", 2);
  struct Pair {
    const quant::Format *from, *to;
  };
  std::vector<Pair> formats;
  for (const auto& t : file->tensors()) {
    const quant::Format* from = quant::find_format(t.type);
    if (from == nullptr) return quant::unsupported_type(t.name, t.type).with_context(in);
    const quant::Format* to = &choose(mix, t.name, t.shape.size(), t.columns(), n_layers, tied);
    formats.push_back({from, to});
    writer.add_tensor(t.name, t.shape, uint32_t(to->type), to->row_bytes(t.columns()) * t.rows());
  }
  PONDER_CHECK_OK(writer.begin(out));
  std::vector<float> weights;
  std::vector<uint8_t> piece;
  for (size_t i = 0; i < formats.size(); ++i) {
    const gguf::TensorInfo& t = file->tensors()[i];
    const auto [from, to] = formats[i];
    if (from == to) {  // nothing is gained by rounding again
      PONDER_CHECK_OK(writer.write_data(t.data));
      continue;
    }
    const uint64_t columns = t.columns(), rows = t.rows();
    const uint64_t step = std::max<uint64_t>(1, kPieceBytes / (columns * sizeof(float)));
    for (uint64_t row = 0; row < rows; row += step) {
      const uint64_t n = columns * std::min(step, rows - row);
      weights.resize(n);
      piece.resize(n / to->block_size * to->block_bytes);
      from->dequantize(t.data.data() + row * from->row_bytes(columns), weights.data(), n / from->block_size);
      to->quantize(weights.data(), piece.data(), n / to->block_size);
      PONDER_CHECK_OK(writer.write_data(piece));
    }
    file->drop(t);
  }
  return writer.finish();
}

}  // namespace ponder::synth
