// A backend runs a model on devices. It compiles a model into a Plan (every byte known before any is allocated); a plan
// takes batches of rows (prefill, decode, drafts, votes: one type for all) and returns what each row asked for.
// A sequence's numbers never depend on its neighbours, on chunking, on threads or on a cache hit (docs/numerics.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/kv/pages.h"
#include "base/result.h"
#include "model/model.h"
#include "sample/sample.h"

namespace ponder::backend {

using TokenId = int32_t;
using kv::SequenceState;

/// A promise about accuracy, the same for prompt and generated rows. What integers stand behind it is the numerics id.
enum class Precision : uint8_t { standard, fast, exact };
const char* to_string(Precision precision);
std::optional<Precision> parse_precision(std::string_view name);

/// How K and V are kept. q8: int8 with a scale per 32 numbers, keys without their bias (docs/numerics.md).
enum class KvFormat : uint8_t { f16, f32, q8 };
const char* to_string(KvFormat format);
std::optional<KvFormat> parse_kv_format(std::string_view name);  ///< "q8_0" is q8, as Ollama says

struct PlanOptions {
  int threads = 0;  ///< 0: physical cores
  Precision precision = Precision::standard;
  KvFormat kv_format = KvFormat::f16;
  int64_t kv_tokens = 4096;  ///< capacity of the page pool, all sequences together; pages are taken as used
  bool repack = true;        ///< copy weights into the layout of the kernels; false: repack as they are used, each time
  int max_batch_rows = 512;  ///< rows of one launch
  int max_output_rows = 32;  ///< rows of one launch that ask for anything
  int gpu_layers = -1;       ///< layers that a card has; -1: all that fit. The processor computes the others
  uint64_t gpu_memory = 0;   ///< bytes that may be taken of each card; 0: all that is free
};

/// Bytes a plan will need, by purpose. `kv_capacity` is only taken as pages are used.
struct MemoryReport {
  uint64_t weights = 0;         ///< packed copies in anonymous memory
  uint64_t mapped_weights = 0;  ///< used in place in the file's mapping
  uint64_t kv_per_token = 0;
  uint64_t kv_capacity = 0;
  uint64_t scratch = 0;
  uint64_t total() const { return weights + mapped_weights + kv_capacity + scratch; }
};

/// What a run was made with: printed by `show` and `--verbose`, kept in receipts.
struct PlanInfo {
  std::string backend;      ///< "cpu", "reference"
  std::string device;       ///< "AMD EPYC ...", for people
  std::string isa;          ///< "avx512"
  std::string numerics_id;  ///< "cpu.i8x32r1"
  Precision precision = Precision::standard;
  KvFormat kv_format = KvFormat::f16;
  int threads = 1;
  int gpu_layers = 0;           ///< layers on cards, of spec().n_layers
  std::vector<int> cards = {};  ///< their numbers, as the driver counts
  std::string placement = {};   ///< for people, when more than one device computes: "layers 1-9 on the processor, ..."
  /// Bytes read for one decoded token at depth 0 (weights once), for the fraction of the memory's limit.
  uint64_t bytes_per_token = 0;
};

/// One token of one sequence in a batch. Rows of a sequence are consecutive in the batch, ascending in position, and
/// start at its length(). The sequence must have room (reserve) for all its rows.
struct Row {
  SequenceState* sequence = nullptr;
  TokenId token = 0;
  int32_t position = 0;
  const sample::Request* sampling = nullptr;  ///< draw the next token; null: no draw
  bool want_logits = false;                   ///< keep the full logits for the caller
};

struct Batch {
  std::vector<Row> rows;
};

struct RowResult {
  sample::Sampled sampled;        ///< if the row asked for a draw
  std::span<const float> logits;  ///< if asked for; valid until the next launch
};

/// Set from any thread to abandon the batch in flight (checked between layers).
using StopFlag = std::atomic<bool>;
/// Fraction done, 0 to 1, while weights are placed.
using Progress = std::function<void(double)>;

/// A model placed on devices. One thread at a time.
class Plan : public kv::PageStore {
 public:
  virtual const MemoryReport& memory_report() const = 0;
  virtual const PlanInfo& info() const = 0;
  virtual const model::ModelSpec& spec() const = 0;
  /// Bytes that the plan's devices have left for more KV beyond memory_report(), checked already that the report fits;
  /// nothing: the machine's own memory counts, and the caller checks.
  virtual std::optional<uint64_t> spare_memory() const { return std::nullopt; }

  /// Allocates and packs. Before it, a plan has allocated nothing of size. `stop` gives up (code cancelled).
  virtual Result<void> load(const Progress& progress, const StopFlag* stop) = 0;

  /// Bytes a second at which the plan's processor reads the weights that it has loaded, and does nothing else: the limit of
  /// decoding, measured now. 0: this plan cannot tell. Not while a batch is in flight.
  virtual double read_bandwidth() { return 0; }

  kv::PagePool& pages() { return *pages_; }
  std::unique_ptr<SequenceState> new_state() { return std::make_unique<SequenceState>(*pages_, *this); }

  /// Starts a batch; one may be in flight. A sequence's length is advanced by collect(), not here.
  virtual Result<void> launch(const Batch& batch, const StopFlag* stop) = 0;
  /// Waits for it: one result per row. With `cancelled`, every sequence is as before the launch.
  virtual Result<std::vector<RowResult>> collect() = 0;

 protected:
  std::unique_ptr<kv::PagePool> pages_;  // made by compile()
};

/// The first layers of a model on one device, when others have the rest: from the batch's tokens to the residual stream
/// after layer n - 1. Its K and V lie in the plan's pages, by their ids.
class FrontLayers : public kv::PageStore {
 public:
  virtual const MemoryReport& memory_report() const = 0;
  virtual std::string numerics_id() const = 0;
  virtual int threads() const = 0;
  virtual Result<void> load(const Progress& progress, const StopFlag* stop) = 0;
  /// x_out[rows][hidden_size]; false when `stop` was seen set.
  virtual Result<bool> run(const Batch& batch, const StopFlag* stop, float* x_out) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  /// Checks that the model can run here and lays out memory; allocates nothing of size.
  virtual Result<std::unique_ptr<Plan>> compile(std::shared_ptr<const model::Model> model,
                                                const PlanOptions& options) = 0;
};

/// Checks what every backend demands of a batch (rows consecutive, positions, token ids, limits): the error of a bad one.
Result<void> validate(const Batch& batch, const model::ModelSpec& spec, const PlanOptions& options);

}  // namespace ponder::backend
