// The models in memory: found by name, loaded where there is room, unloaded when they outstay their time.
// One lock, the runtime's, guards them. Every function is called with it held; what takes long lets it go meanwhile.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/client.h"
#include "runtime/loaded_model.h"
#include "runtime/types.h"

namespace ponder::runtime {

/// A turn that is over: the next one's beginning may be computed while nothing else is to be done.
struct Past {
  ChatRequest request;
  std::string thinking, content;
};

/// A model in memory with what keeps it there.
struct Resident {
  std::unique_ptr<LoadedModel> model;
  std::string name;
  int asked_threads = 0;  ///< when it was loaded; 0: as many as the backend likes
  int users = 0;          ///< requests that hold it
  double idle_since = 0;
  double keep_alive = 300;          ///< seconds; negative: for ever
  std::deque<Past> ahead;           ///< newest last
  engine::SequenceId ahead_id = 0;  ///< what the engine was last given of those

  RunningModel describe() const;
  /// Whether it computes with so many threads, or with as many of them as the backend can use.
  bool has_threads(int n) const { return n == asked_threads || n == model->engine().plan().info().threads; }
};

class Residents {
 public:
  using Lock = std::unique_lock<std::mutex>;

  Residents(store::Store& store, const RuntimeOptions& options) : store_(store), options_(options) {}

  /// The request's model is here, or can be loaded now.
  bool has_place_for(const ChatRequest& request);
  /// Counts as a user of the request's model, which is loaded if need be; `*load_seconds` is only set then. For one
  /// thread. The address stays until the model is unloaded, which users prevent.
  Result<Resident*> acquire(const ChatRequest& request, const std::function<void(double)>& progress,
                            const CancelFlag* cancel, double* load_seconds, Lock& lock);
  void release(Resident& resident);
  /// All of that name are unloaded by the next unload_expired() that finds them idle. False if there is none.
  bool stop(const std::string& model);
  void unload_expired(Lock& lock);
  /// Joins all engines, which report their sequences meanwhile: without the lock, at the end.
  void join();

  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }
  bool empty() const { return list_.empty(); }

 private:
  Resident* find(const ChatRequest& request);
  Resident* longest_idle();
  bool is_full() const { return int(list_.size()) >= options_.max_loaded_models; }
  bool evict_one(Lock& lock);

  store::Store& store_;
  const RuntimeOptions& options_;
  std::list<Resident> list_;  // stable addresses: callbacks point at them
};

}  // namespace ponder::runtime
