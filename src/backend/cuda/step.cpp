// Why this file is long: the order of a step is one story, from upload to wait. Next: plan.cpp, which strings cards together.
#include "backend/cuda/step.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>

#include "backend/cuda/attention.h"
#include "backend/cuda/elementwise.h"
#include "backend/cuda/linear.h"
#include "base/os/system.h"

namespace ponder::backend::cuda {
namespace {

constexpr int kSmallestBound = 1024;  // positions of the smallest graph
constexpr int kLayersAhead = 4;       // large batches: layers on their way while the stop flag is looked at
constexpr double kSleepShare = 0.96, kWakeSeconds = 60e-6;

}  // namespace

CardStep::CardStep(const model::Model& model, const PlanOptions& options, const Placement& placement,
                   const CardPart& part, const CardRoom& room)
    : model_(model), options_(options), placement_(placement), part_(part), room_(room) {}

CardStep::~CardStep() {
  if (stream_ == nullptr) return;
  cudaSetDevice(room_.card.index);
  cudaStreamSynchronize(stream_);
  for (auto& [shape, graph] : graphs_) cudaGraphExecDestroy(graph.exec);
  for (cudaEvent_t e : {throttle_, begun_, ended_})
    if (e != nullptr) cudaEventDestroy(e);
  cudaStreamDestroy(stream_);
}

Result<void> CardStep::use_card() const { return check(cudaSetDevice(room_.card.index), "choosing the card"); }

Result<void> CardStep::load(const std::function<void(uint64_t)>& progress, const StopFlag* stop) {
  PONDER_CHECK_OK(use_card());
  if (stream_ == nullptr) {
    PONDER_CHECK_OK(check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "starting a stream"));
    PONDER_CHECK_OK(
        check(cudaEventCreateWithFlags(&throttle_, cudaEventDisableTiming | cudaEventBlockingSync), "making an event"));
    PONDER_CHECK_OK(check(cudaEventCreate(&begun_), "making an event"));
    PONDER_CHECK_OK(check(cudaEventCreate(&ended_), "making an event"));
  }
  PONDER_TRY(pages_, GrowingBuffer::reserve(room_.card.index, part_.page_bytes * uint64_t(placement_.n_pages)));
  PONDER_TRY(scratch_, DeviceBuffer::allocate(part_.scratch, "working memory"));
  PONDER_CHECK_OK(check(cudaMemsetAsync(scratch_.data(), 0, scratch_.size(), stream_), "clearing working memory"));
  StepBuffers::cut(model_.spec, options_, part_.has_head, placement_.max_position, scratch_.data(), &buffers_);
  const uint64_t rows = uint64_t(padded_rows(options_));
  PONDER_TRY(staging_, PinnedBuffer::allocate((3 * rows + rows * uint64_t(buffers_.max_pages)) * 4, "batches"));
  PONDER_TRY(tokens_, PinnedBuffer::allocate(uint64_t(padded_outputs(options_)) * 4, "tokens"));
  table_shadow_.assign(size_t(kMaxGraphRows * buffers_.max_pages), 0);
  PONDER_TRY(weights_, load_weights(model_, part_, progress, stop));

  const auto& f = model_.spec.rope.inverse_frequencies;
  PONDER_TRY(const DeviceBuffer frequencies, DeviceBuffer::allocate(f.size() * sizeof(double), "RoPE"));
  PONDER_CHECK_OK(
      check(cudaMemcpyAsync(frequencies.data(), f.data(), f.size() * sizeof(double), cudaMemcpyHostToDevice, stream_),
            "loading RoPE"));
  PONDER_CHECK_OK(check(make_rope_table(frequencies.as<double>(), int(f.size()), model_.spec.rope.magnitude,
                                        placement_.max_position, reinterpret_cast<float2*>(buffers_.rope), stream_),
                        "making the RoPE table"));
  PONDER_CHECK_OK(make_key_biases());
  return check(cudaStreamSynchronize(stream_), "loading");
}

Result<void> CardStep::make_key_biases() {
  key_biases_.assign(weights_.layers.size(), nullptr);
  if (part_.key_bias == 0) return {};
  PONDER_TRY(key_bias_, DeviceBuffer::allocate(part_.key_bias, "biases of keys"));
  uint8_t* to = key_bias_.data();
  for (size_t i = 0; i < key_biases_.size(); ++i) {
    if (!bias_apart(options_, model_.layers[size_t(part_.first_layer) + i])) continue;
    const AttentionArgs a = attention_args(i);
    PONDER_CHECK_OK(check(make_key_bias(a, weights_.layers[i].k_bias, to, stream_), "turning biases of keys"));
    key_biases_[i] = to;
    to += key_bias_bytes(a.n_kv_heads, a.head_dim);
  }
  return {};
}

Result<void> CardStep::prepare_page(kv::PageId page) {
  PONDER_CHECK_OK(use_card());
  return pages_.grow(uint64_t(page + 1) * part_.page_bytes, stream_);
}

Result<void> CardStep::copy_page(kv::PageId from, kv::PageId to) {
  PONDER_CHECK_OK(use_card());
  return check(cudaMemcpyAsync(pages_.data() + uint64_t(to) * part_.page_bytes,
                               pages_.data() + uint64_t(from) * part_.page_bytes, part_.page_bytes,
                               cudaMemcpyDeviceToDevice, stream_),
               "copying a KV page");
}

Result<void> CardStep::begin(const Batch& batch, std::span<const int> outputs) {
  PONDER_CHECK_OK(use_card());
  const int n = int(batch.rows.size());
  int max_position = 0;
  for (const Row& r : batch.rows) max_position = std::max(max_position, int(r.position));
  Shape s;
  s.gather = int(outputs.size()) != n;
  const bool small = n <= kMaxGraphRows && !s.gather;
  s.rows = small ? int(std::bit_ceil(unsigned(n))) : n;
  s.outputs = s.gather ? int(outputs.size()) : s.rows;
  // The bound of a small step is rounded up, so that one graph serves many steps.
  s.max_position = small ? std::min(std::max(kSmallestBound, int(std::bit_ceil(unsigned(max_position + 1)))),
                                    placement_.max_position)
                         : max_position + 1;
  const int64_t used_pages = max_position / kv::kPageTokens + 1;
  s.table_stride = small ? buffers_.max_pages : used_pages;
  shape_ = s;

  runs_.clear();
  for (int i = 0; i < n; ++i) {
    if (i == 0 || batch.rows[size_t(i)].sequence != batch.rows[size_t(i - 1)].sequence) runs_.push_back({i, 0});
    ++runs_.back().n;
  }

  // Tokens, positions, output rows: one copy.
  int32_t* meta = staging_.as<int32_t>();
  for (int i = 0; i < s.rows; ++i) {
    meta[i] = i < n ? batch.rows[size_t(i)].token : -1;
    meta[s.rows + i] = i < n ? batch.rows[size_t(i)].position : -1;
  }
  int n_meta = 2 * s.rows;
  if (s.gather)
    for (int i : outputs) meta[n_meta++] = i;
  PONDER_CHECK_OK(check(cudaMemcpyAsync(buffers_.meta, meta, size_t(n_meta) * 4, cudaMemcpyHostToDevice, stream_),
                        "sending a batch"));

  // Page tables: a small step's are kept on the card and only what is new is sent.
  int32_t* table = meta + 3 * padded_rows(options_);
  for (int i = 0; i < n; ++i) {
    const Row& r = batch.rows[size_t(i)];
    // All pages of the sequence that the batch can reach: rows of a run are read through the table of one of them.
    const auto all = r.sequence->pages();
    const auto ids = all.first(std::min(all.size(), size_t(used_pages)));
    const size_t pages = ids.size();
    int32_t* to = table + i * s.table_stride;
    if (!small) {
      std::copy(ids.begin(), ids.end(), to);
      std::fill(to + pages, to + s.table_stride, 0);
      continue;
    }
    int32_t* shadow = table_shadow_.data() + i * s.table_stride;
    if (std::equal(ids.begin(), ids.end(), shadow)) continue;
    std::copy(ids.begin(), ids.end(), shadow);
    std::copy(ids.begin(), ids.end(), to);
    PONDER_CHECK_OK(
        check(cudaMemcpyAsync(buffers_.page_table + i * s.table_stride, to, pages * 4, cudaMemcpyHostToDevice, stream_),
              "sending a page table"));
  }
  if (!small) {
    std::fill(table_shadow_.begin(), table_shadow_.end(), -1);  // overwritten below
    PONDER_CHECK_OK(check(
        cudaMemcpyAsync(buffers_.page_table, table, size_t(n * s.table_stride) * 4, cudaMemcpyHostToDevice, stream_),
        "sending page tables"));
  }
  return {};
}

Result<bool> CardStep::run(const float* x_in, const StopFlag* stop) {
  PONDER_CHECK_OK(use_card());
  started_ = os::monotonic_seconds();
  PONDER_CHECK_OK(check(cudaEventRecord(begun_, stream_), "computing a step"));
  running_ = true;
  embedded_ = x_in == nullptr;
  if (!embedded_)
    PONDER_CHECK_OK(check(cudaMemcpyAsync(buffers_.x, x_in, size_t(shape_.rows) * size_t(model_.spec.hidden_size) * 4,
                                          cudaMemcpyHostToDevice, stream_),
                          "sending the residual stream"));
  if (shape_.rows > kMaxGraphRows || shape_.gather) return enqueue(shape_, stop);
  auto found = graphs_.find(shape_);
  if (found == graphs_.end()) {
    PONDER_CHECK_OK(capture(shape_));
    found = graphs_.find(shape_);
  }
  PONDER_CHECK_OK(check(cudaGraphLaunch(found->second.exec, stream_), "launching a step"));
  return true;
}

Result<void> CardStep::capture(const Shape& shape) {
  PONDER_CHECK_OK(check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a step"));
  const auto enqueued = enqueue(shape, nullptr);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream_, &graph);
  PONDER_CHECK_OK(enqueued.ok() ? Result<void>{} : Result<void>(enqueued.error()));
  PONDER_CHECK_OK(check(ended, "recording a step"));
  Graph g;
  const cudaError_t made = cudaGraphInstantiate(&g.exec, graph, 0);
  cudaGraphDestroy(graph);
  PONDER_CHECK_OK(check(made, "recording a step"));
  graphs_[shape] = g;
  return {};
}

Result<bool> CardStep::enqueue(const Shape& shape, const StopFlag* stop) {
  const Launch launch{stream_, &room_.limits, room_.limits.compute >= 90};
  if (embedded_)
    PONDER_CHECK_OK(check(dequantize_rows(weights_.embedding, buffers_.meta, shape.rows, model_.spec.embedding_scale,
                                          buffers_.x, model_.spec.hidden_size, launch),
                          "embedding tokens"));
  const bool watch = stop != nullptr && shape.rows > kMaxGraphRows;
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    if (watch && stop->load(std::memory_order_relaxed)) return false;
    if (watch && i % kLayersAhead == 0) {
      // The layers before the last few are done; so a stop never has much to wait for.
      if (i > 0) PONDER_CHECK_OK(check(cudaEventSynchronize(throttle_), "computing a step"));
      PONDER_CHECK_OK(check(cudaEventRecord(throttle_, stream_), "computing a step"));
    }
    PONDER_CHECK_OK(check(layer(i, shape), "computing layer " + std::to_string(part_.first_layer + int(i))));
  }
  if (part_.has_head && shape.outputs > 0) PONDER_CHECK_OK(check(head(shape), "computing the head"));
  return true;
}

AttentionArgs CardStep::attention_args(size_t i) const {
  const model::ModelSpec& spec = model_.spec;
  const model::LayerSpec& s = spec.layers[size_t(part_.first_layer) + i];
  AttentionArgs a;
  a.n_heads = s.n_heads, a.n_kv_heads = s.n_kv_heads, a.head_dim = s.head_dim;
  a.scale = spec.attention_scale;
  a.q8 = options_.kv_format == KvFormat::q8;
  a.key_bias = key_biases_[i];
  a.pages = pages_.data() + i * kv_layer_bytes(s.n_kv_heads, s.head_dim, a.q8);
  a.page_stride = int64_t(part_.page_bytes);
  a.rope = reinterpret_cast<const float2*>(buffers_.rope);
  a.rope_dims = spec.rope.dims;
  a.rope_pairs = spec.rope.layout == model::RopeLayout::pairs;
  a.q_norm = weights_.layers[i].q_norm, a.k_norm = weights_.layers[i].k_norm;
  a.norm_epsilon = spec.rms_epsilon;
  return a;
}

cudaError_t CardStep::layer(size_t i, const Shape& shape) {
  const Launch launch{stream_, &room_.limits, room_.limits.compute >= 90};
  const model::ModelSpec& spec = model_.spec;
  const model::LayerSpec& s = spec.layers[size_t(part_.first_layer) + i];
  const CardLayer& w = weights_.layers[i];
  const StepBuffers& b = buffers_;
  const int64_t hidden = spec.hidden_size, q = s.q_size(), kv = s.kv_size(), qkv = q + 2 * kv;
  const bool last = part_.has_head && i + 1 == weights_.layers.size();
  cudaError_t code;

  LinearArgs in;
  in.x = b.x;
  in.x_stride = hidden;
  in.norm_weight = w.attn_norm;
  in.epsilon = spec.rms_epsilon;
  in.n_matrices = 3;
  in.w[0] = w.q, in.w[1] = w.k, in.w[2] = w.v;
  in.bias[0] = w.q_bias, in.bias[1] = key_biases_[i] != nullptr ? nullptr : w.k_bias, in.bias[2] = w.v_bias;
  in.y[0] = b.qkv, in.y[1] = b.qkv + q, in.y[2] = b.qkv + q + kv;
  in.y_stride[0] = in.y_stride[1] = in.y_stride[2] = qkv;
  in.n_rows = shape.rows;
  in.scratch = b.linear;
  if ((code = linear(in, launch)) != cudaSuccess) return code;

  AttentionArgs a = attention_args(i);
  a.n_rows = shape.rows;
  a.positions = b.meta + shape.rows;
  a.page_table = b.page_table;
  a.page_table_stride = shape.table_stride;
  a.max_position = shape.max_position - 1;
  if (shape.rows > kMaxGraphRows) {
    a.runs = runs_.data();
    a.n_runs = int(runs_.size());
  }
  a.q = b.qkv, a.k = b.qkv + q, a.v = b.qkv + q + kv;
  a.q_stride = a.k_stride = a.v_stride = qkv;
  a.out = b.attention;
  a.out_stride = q;
  a.scratch = b.attention_scratch;
  // When nobody asks for anything, K and V are all that matters of the last layer.
  if (last && shape.outputs == 0) return rope_and_store(a, launch);
  if ((code = rope_store_attend(a, launch)) != cudaSuccess) return code;

  float *x = b.x, *mixed = b.attention;
  int rows = shape.rows;
  if (last && shape.gather) {  // from here on only rows that ask for something go on
    const int32_t* outputs = b.meta + 2 * shape.rows;
    if ((code = gather_rows(b.x, hidden, outputs, shape.outputs, int(hidden), b.x_out, launch)) != cudaSuccess ||
        (code = gather_rows(b.attention, q, outputs, shape.outputs, int(q), b.attention_out, launch)) != cudaSuccess)
      return code;
    x = b.x_out, mixed = b.attention_out, rows = shape.outputs;
  }
  LinearArgs out;
  out.x = mixed;
  out.x_stride = q;
  out.w[0] = w.output;
  out.bias[0] = w.output_bias;
  out.y[0] = x;
  out.y_stride[0] = hidden;
  out.epilogue = Epilogue::add;
  out.n_rows = rows;
  out.scratch = b.linear;
  if ((code = linear(out, launch)) != cudaSuccess) return code;

  LinearArgs up;
  up.x = x;
  up.x_stride = hidden;
  up.norm_weight = w.ffn_norm;
  up.epsilon = spec.rms_epsilon;
  up.n_matrices = 2;
  up.w[0] = w.gate, up.w[1] = w.up;
  up.y[0] = b.ffn;
  up.y_stride[0] = s.ffn_size;
  up.epilogue = spec.activation == model::Activation::silu ? Epilogue::silu : Epilogue::gelu;
  up.n_rows = rows;
  up.scratch = b.linear;
  if ((code = linear(up, launch)) != cudaSuccess) return code;

  LinearArgs down;
  down.x = b.ffn;
  down.x_stride = s.ffn_size;
  down.w[0] = w.down;
  down.y[0] = x;
  down.y_stride[0] = hidden;
  down.epilogue = Epilogue::add;
  down.n_rows = rows;
  down.scratch = b.linear;
  return linear(down, launch);
}

cudaError_t CardStep::head(const Shape& shape) {
  const Launch launch{stream_, &room_.limits, room_.limits.compute >= 90};
  LinearArgs h;
  h.x = shape.gather ? buffers_.x_out : buffers_.x;
  h.x_stride = model_.spec.hidden_size;
  h.norm_weight = weights_.output_norm;
  h.epsilon = model_.spec.rms_epsilon;
  h.w[0] = weights_.head;
  h.y[0] = buffers_.logits;
  h.y_stride[0] = model_.spec.vocab_size;
  h.y_scale = model_.spec.logit_scale;
  h.n_rows = shape.outputs;
  h.scratch = buffers_.linear;
  return linear(h, launch);
}

Result<void> CardStep::fetch_x(float* x_out) {
  PONDER_CHECK_OK(use_card());
  PONDER_CHECK_OK(check(cudaMemcpyAsync(x_out, buffers_.x, size_t(shape_.rows) * size_t(model_.spec.hidden_size) * 4,
                                        cudaMemcpyDeviceToHost, stream_),
                        "fetching the residual stream"));
  return wait();
}

Result<void> CardStep::draw(const DrawBatch& draws) {
  PONDER_CHECK_OK(use_card());
  const size_t rows = draws.rows.size() * sizeof(DrawRequest), edits = draws.edits.size() * sizeof(LogitEdit),
               mask = draws.mask.size() * 4, all = rows + edits + mask;
  if (all > draw_memory_.size()) {  // requests with long masks or windows are rare; the memory stays
    PONDER_CHECK_OK(wait());
    PONDER_TRY(draw_memory_, DeviceBuffer::allocate(2 * all + 4096, "draws"));
    PONDER_TRY(draw_staging_, PinnedBuffer::allocate(2 * all + 4096, "draws"));
  }
  uint8_t* to = draw_staging_.data();
  std::memcpy(to, draws.rows.data(), rows);
  if (edits > 0) std::memcpy(to + rows, draws.edits.data(), edits);
  if (mask > 0) std::memcpy(to + rows + edits, draws.mask.data(), mask);
  PONDER_CHECK_OK(check(cudaMemcpyAsync(draw_memory_.data(), to, all, cudaMemcpyHostToDevice, stream_), "drawing"));
  const Launch launch{stream_, &room_.limits, room_.limits.compute >= 90};
  return check(cuda::draw(buffers_.logits, model_.spec.vocab_size, int(draws.rows.size()),
                          draw_memory_.as<DrawRequest>(), reinterpret_cast<LogitEdit*>(draw_memory_.data() + rows),
                          reinterpret_cast<uint32_t*>(draw_memory_.data() + rows + edits), draws.changes,
                          buffers_.sampler, tokens_.as<int32_t>(), launch),
               "drawing");
}

Result<void> CardStep::fetch_logits(int i, float* to) {
  PONDER_CHECK_OK(use_card());
  const size_t vocab = size_t(model_.spec.vocab_size);
  return check(cudaMemcpyAsync(to, buffers_.logits + size_t(i) * vocab, vocab * 4, cudaMemcpyDeviceToHost, stream_),
               "fetching logits");
}

Result<void> CardStep::wait() {
  PONDER_CHECK_OK(use_card());
  if (!running_) return check(cudaStreamSynchronize(stream_), "computing a step");
  running_ = false;
  PONDER_CHECK_OK(check(cudaEventRecord(ended_, stream_), "computing a step"));
  // Sleeping through most of a step leaves the processor to others; watching the rest answers at once. How long such a
  // step takes is the card's own figure: what the host saw would contain its sleep.
  double& usual = durations_[shape_];
  const double doze = usual * kSleepShare - kWakeSeconds - (os::monotonic_seconds() - started_);
  if (doze > 50e-6) std::this_thread::sleep_for(std::chrono::duration<double>(doze));
  cudaError_t code;
  while ((code = cudaEventQuery(ended_)) == cudaErrorNotReady) {
    if (os::monotonic_seconds() - started_ > 2 * usual + 1e-3) {  // nothing is known of such a step yet
      code = cudaEventSynchronize(ended_);
      break;
    }
  }
  PONDER_CHECK_OK(check(code, "computing a step"));
  float milliseconds = 0;
  if (cudaEventElapsedTime(&milliseconds, begun_, ended_) == cudaSuccess) {
    const double took = double(milliseconds) * 1e-3;
    usual = usual == 0 || took < usual ? took : 0.9 * usual + 0.1 * std::min(took, 2 * usual);
  }
  return {};
}

}  // namespace ponder::backend::cuda
