// The two ways to reach models: in this process (LocalClient), or through a Ponder server (HttpClient). The command
// line talks to this interface only and does not know which it has.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/types.h"

namespace ponder::runtime {

/// Set from any thread to end the call it was given to.
using CancelFlag = std::atomic<bool>;

class Client {
 public:
  virtual ~Client() = default;

  /// Blocks until the reply is complete; `sink` gets the pieces on the way (on_done and on_error are not used). A set
  /// flag ends it with what there is so far and done_reason "cancelled".
  virtual Result<ChatResult> chat(const ChatRequest& request, const ChatSink& sink, const CancelFlag* cancel) = 0;

  virtual Result<std::vector<store::ModelInfo>> list() = 0;
  virtual Result<std::vector<RunningModel>> running() = 0;
  /// Whether the model's files are there, without opening them.
  virtual Result<bool> exists(const std::string& model) = 0;
  virtual Result<ShowResult> show(const std::string& model, bool verbose) = 0;
  virtual Result<void> pull(const std::string& model, bool insecure,
                            const std::function<void(const store::PullProgress&)>& progress,
                            const CancelFlag* cancel) = 0;
  virtual Result<void> remove(const std::string& model) = 0;
  /// Ends a model's stay in memory.
  virtual Result<void> stop(const std::string& model) = 0;
  /// Steers a running request by its id, from any thread; it acts at the request's next step. Says where the request was
  /// met ("waiting", "thinking", "answering"); an error if it is over, or the thought is and the command needs one.
  virtual Result<std::string> control(const std::string& id, const Control& control) = 0;
};

/// How models are run in this process.
struct RuntimeOptions {
  std::string backend = "auto";        ///< auto | cuda | cpu | reference
  int gpu_layers = -1;                 ///< layers on the card; -1: all that fit
  uint64_t gpu_memory = 0;             ///< bytes that may be taken of each card; 0: all that is free
  int threads = 0;                     ///< 0: PONDER_THREADS, else physical cores
  std::string precision = "standard";  ///< standard | fast | exact
  std::string kv_format = "f16";       ///< f16 | q8 | f32
  std::string draft = "auto";          ///< of requests that do not say: auto | off | a number (parse_draft)
  bool repack = true;                  ///< false: weights stay in the file's mapping
  double keep_alive_seconds = 300;
  int max_loaded_models = 2;
  int max_sequences = 8;     ///< per model, at once
  int default_context = 0;   ///< 0: the model's limit, at most 32,768 and what fits
  bool allow_paths = false;  ///< ChatRequest::model may be a path (never in a server)
};

struct Receipts;      // runtime/vote_receipt.h
struct ReplayReport;  // runtime/replay.h

/// Models of this process behind asynchronous calls: the server's side, and what LocalClient waits on.
class Runtime {
 public:
  static Result<std::unique_ptr<Runtime>> create(store::Store& store, const RuntimeOptions& options);
  virtual ~Runtime() = default;  ///< cancels what runs and joins

  /// Returns at once; loads the model if need be. Events come through `sink`. The flag is looked at between steps and
  /// may be set at any time.
  virtual void chat(ChatRequest request, ChatSink sink, std::shared_ptr<const CancelFlag> cancel) = 0;
  virtual std::vector<RunningModel> running() = 0;
  virtual Result<ShowResult> show(const std::string& model, bool verbose) = 0;
  virtual Result<void> stop(const std::string& model) = 0;
  /// See Client::control.
  virtual Result<std::string> control(const std::string& id, const Control& control) = 0;
  /// Draws the recorded tokens again among whatever else runs (runtime/replay.h); waits for it. `model`: whose receipts
  /// they are. Refused with the reason when they must be expected to differ here, unless `force`.
  virtual Result<ReplayReport> replay(const std::string& model, const Receipts& receipts, bool force,
                                      std::shared_ptr<const CancelFlag> cancel) = 0;
  virtual store::Store& store() = 0;
};

std::unique_ptr<Client> make_local_client(Runtime& runtime);

/// OLLAMA_HOST ("host", "host:port", ":port", "http://host:port") as host and port; 127.0.0.1:11434 when empty.
struct Address {
  std::string host = "127.0.0.1";
  int port = 11434;
};
Result<Address> parse_address(const std::string& text);
/// "127.0.0.1:11434", "[::1]:11434": as it stands in a Host header and behind http://.
std::string authority(const Address& address);

/// Asks `http://host:port/api/version`: a client when a Ponder server answers there (`"server":"ponder"`), an Error
/// otherwise (not_found: nobody listens; already_exists: another program has the port).
Result<std::unique_ptr<Client>> connect(const Address& address, double timeout_seconds = 1.0);

}  // namespace ponder::runtime
