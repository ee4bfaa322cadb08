// Two pieces are in flight: while one is copied out of the file's mapping by a few threads, the other crosses the bus and
// is repacked. The file's pages are given back as they are done, so that they do not add up to the model's size.
#include "backend/cuda/loader.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/os/system.h"
#include "base/thread_pool.h"

namespace ponder::backend::cuda {
namespace {

constexpr uint64_t kPiece = uint64_t(32) << 20;
constexpr int kPieces = 3;
constexpr int kCopyThreads = 8;

class Loader {
 public:
  Loader(const model::Model& model, const CardPart& part, const std::function<void(uint64_t)>& progress,
         const StopFlag* stop)
      : model_(model),
        part_(part),
        progress_(progress),
        stop_(stop),
        pool_(std::clamp(os::usable_cores(), 1, kCopyThreads)) {}
  ~Loader() {
    if (stream_ == nullptr) return;
    cudaStreamSynchronize(stream_);
    for (cudaEvent_t e : done_)
      if (e != nullptr) cudaEventDestroy(e);
    cudaStreamDestroy(stream_);
  }

  Result<CardWeights> run() {
    PONDER_TRY(out_.memory, DeviceBuffer::allocate(part_.weights + part_.vectors, "weights"));
    PONDER_CHECK_OK(check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "starting a stream"));
    uint64_t longest_row = 0;
    for (const model::Tensor* t : {&model_.token_embd, &model_.output}) longest_row = std::max(longest_row, row(*t));
    for (const auto& w : model_.layers)
      for (const model::Tensor* t : {&w.q, &w.k, &w.v, &w.output, &w.gate, &w.up, &w.down})
        longest_row = std::max(longest_row, row(*t));
    piece_bytes_ = std::max(kPiece, longest_row * kTileRows);
    for (int i = 0; i < kPieces; ++i) {
      PONDER_TRY(pinned_[i], PinnedBuffer::allocate(piece_bytes_, "loading"));
      PONDER_TRY(raw_[i], DeviceBuffer::allocate(piece_bytes_, "loading"));
      PONDER_CHECK_OK(check(cudaEventCreateWithFlags(&done_[i], cudaEventDisableTiming), "loading"));
    }
    for (int i = part_.first_layer; i < part_.last_layer; ++i) {
      const model::LayerWeights& w = model_.layers[size_t(i)];
      CardLayer l;
      PONDER_CHECK_OK(matrix(w.q, l.q));
      PONDER_CHECK_OK(matrix(w.k, l.k));
      PONDER_CHECK_OK(matrix(w.v, l.v));
      PONDER_CHECK_OK(matrix(w.output, l.output));
      PONDER_CHECK_OK(matrix(w.gate, l.gate));
      PONDER_CHECK_OK(matrix(w.up, l.up));
      PONDER_CHECK_OK(matrix(w.down, l.down));
      PONDER_CHECK_OK(vector(w.attn_norm, l.attn_norm));
      PONDER_CHECK_OK(vector(w.ffn_norm, l.ffn_norm));
      PONDER_CHECK_OK(vector(w.q_bias, l.q_bias));
      PONDER_CHECK_OK(vector(w.k_bias, l.k_bias));
      PONDER_CHECK_OK(vector(w.v_bias, l.v_bias));
      PONDER_CHECK_OK(vector(w.q_norm, l.q_norm));
      PONDER_CHECK_OK(vector(w.k_norm, l.k_norm));
      PONDER_CHECK_OK(vector(w.output_bias, l.output_bias));
      out_.layers.push_back(l);
    }
    if (part_.has_head) {
      PONDER_CHECK_OK(matrix(model_.output, out_.head));
      PONDER_CHECK_OK(vector(model_.output_norm, out_.output_norm));
    }
    if (part_.embeds) {
      if (part_.has_head && model_.spec.tied_head) {
        out_.embedding = out_.head;
      } else {
        PONDER_CHECK_OK(matrix(model_.token_embd, out_.embedding));
      }
    }
    PONDER_CHECK_OK(check(cudaStreamSynchronize(stream_), "loading weights"));
    return std::move(out_);
  }

 private:
  static uint64_t row(const model::Tensor& t) { return t.format->row_bytes(t.columns); }

  uint8_t* take(uint64_t bytes) {
    uint8_t* at = out_.memory.data() + used_;
    used_ += align_up(bytes, 256);
    return at;
  }

  Result<void> matrix(const model::Tensor& t, Matrix& m) {
    TileKind kind;
    if (!tile_kind(uint32_t(t.format->type), &kind)) return Error{ErrorCode::internal, t.name + ": not placed"};
    const uint64_t packed = packed_bytes(kind, int64_t(t.rows), int64_t(t.columns));
    uint8_t* to = take(packed);
    m = {to, kind, int(t.rows), int(t.columns)};
    const uint64_t row_bytes = row(t), rows_of_piece = piece_bytes_ / row_bytes / kTileRows * kTileRows;
    for (uint64_t first = 0; first < t.rows; first += rows_of_piece) {
      if (stop_ != nullptr && stop_->load(std::memory_order_relaxed))
        return Error{ErrorCode::cancelled, "loading was stopped"};
      const uint64_t rows = std::min(rows_of_piece, t.rows - first), bytes = rows * row_bytes;
      const auto part = t.data.subspan(first * row_bytes, bytes);
      const int slot = next_++ % kPieces;
      PONDER_CHECK_OK(check(cudaEventSynchronize(done_[slot]), "loading " + t.name));
      pool_.run([&](int thread) {
        const Share s = share_of(int64_t(bytes), thread, pool_.size());
        std::memcpy(pinned_[slot].data() + s.begin, part.data() + s.begin, size_t(s.end - s.begin));
      });
      PONDER_CHECK_OK(
          check(cudaMemcpyAsync(raw_[slot].data(), pinned_[slot].data(), bytes, cudaMemcpyHostToDevice, stream_),
                "loading " + t.name));
      PONDER_CHECK_OK(
          check(repack(kind, raw_[slot].data(), int64_t(rows), int64_t(t.columns), int64_t(first), to, stream_),
                "repacking " + t.name));
      PONDER_CHECK_OK(check(cudaEventRecord(done_[slot], stream_), "loading " + t.name));
      if (t.info != nullptr) {
        gguf::TensorInfo done;
        done.data = part;
        model_.file->drop(done);
      }
      if (progress_) progress_(bytes);
    }
    return {};
  }

  Result<void> vector(const model::Tensor& t, const float*& out) {
    if (!t) return {};
    const std::vector<float> values = model::to_floats(t);
    uint8_t* to = take(values.size() * sizeof(float));
    out = reinterpret_cast<const float*>(to);
    // Pageable memory: the copy has left it when the call returns.
    return check(cudaMemcpyAsync(to, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice, stream_),
                 "loading " + t.name);
  }

  const model::Model& model_;
  const CardPart& part_;
  const std::function<void(uint64_t)>& progress_;
  const StopFlag* stop_;
  ThreadPool pool_;
  CardWeights out_;
  uint64_t used_ = 0, piece_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  PinnedBuffer pinned_[kPieces];
  DeviceBuffer raw_[kPieces];
  cudaEvent_t done_[kPieces] = {};
  int next_ = 0;
};

}  // namespace

Result<CardWeights> load_weights(const model::Model& model, const CardPart& part,
                                 const std::function<void(uint64_t)>& progress, const StopFlag* stop) {
  return Loader(model, part, progress, stop).run();
}

}  // namespace ponder::backend::cuda
