#include "runtime/residents.h"

#include <algorithm>
#include <ctime>
#include <iterator>
#include <utility>

#include "base/os/system.h"
#include "runtime/backends.h"

namespace ponder::runtime {
namespace {

std::string key_of(const std::string& model) {
  auto name = store::Name::parse(model);
  return name.ok() ? name->display() : model;
}

}  // namespace

RunningModel Resident::describe() const {
  RunningModel m;
  const auto& info = model->engine().plan().info();
  const auto status = model->engine().status();
  m.name = name;
  m.digest = model->open().stored.digest;
  m.details = model->open().stored.details;
  m.size = model->memory_bytes();
  const int n_layers = model->engine().plan().spec().n_layers;
  m.processor = processor_of(info, n_layers);
  m.size_vram = m.size * uint64_t(info.gpu_layers) / uint64_t(std::max(1, n_layers));
  m.context_length = model->default_context();
  m.running = status.running;
  m.waiting = status.waiting;
  if (keep_alive >= 0) {
    const double left = users > 0 ? keep_alive : std::max(0.0, idle_since + keep_alive - os::monotonic_seconds());
    m.expires_at = int64_t(std::time(nullptr)) + int64_t(left + 0.5);
  }
  m.numerics_id = info.numerics_id;
  m.precision = backend::to_string(info.precision);
  m.kv_format = backend::to_string(info.kv_format);
  m.isa = info.isa;
  return m;
}

Resident* Residents::find(const ChatRequest& request) {
  const std::string key = key_of(request.model);
  const int threads = request.options.num_thread.value_or(0);
  const auto it = std::ranges::find_if(
      list_, [&](const auto& r) { return r.name == key && (threads == 0 || r.has_threads(threads)); });
  return it == list_.end() ? nullptr : &*it;
}

Resident* Residents::longest_idle() {
  Resident* oldest = nullptr;
  for (auto& r : list_)
    if (r.users == 0 && (oldest == nullptr || r.idle_since < oldest->idle_since)) oldest = &r;
  return oldest;
}

bool Residents::has_place_for(const ChatRequest& request) {
  return find(request) != nullptr || !is_full() || longest_idle() != nullptr;
}

// Makes room; false when no model is idle. An idle engine joins at once.
bool Residents::evict_one(Lock& lock) {
  Resident* idle = longest_idle();
  if (idle == nullptr) return false;
  std::list<Resident> gone;
  gone.splice(gone.end(), list_, std::ranges::find_if(list_, [&](const Resident& r) { return &r == idle; }));
  lock.unlock();
  gone.clear();
  lock.lock();
  return true;
}

Result<Resident*> Residents::acquire(const ChatRequest& request, const std::function<void(double)>& progress,
                                     const CancelFlag* cancel, double* load_seconds, Lock& lock) {
  if (Resident* r = find(request)) {
    r->users++;
    return r;
  }
  lock.unlock();
  auto open = open_model(store_, request.model, options_.allow_paths);
  lock.lock();
  if (!open.ok()) return std::move(open).error();
  while (is_full() && evict_one(lock)) {
  }
  RuntimeOptions options = options_;
  if (request.options.num_thread.value_or(0) > 0) options.threads = *request.options.num_thread;
  const double start = os::monotonic_seconds();
  for (;;) {
    lock.unlock();
    auto model = LoadedModel::load(*open, options, request.options.num_ctx.value_or(0), progress, cancel);
    lock.lock();
    if (!model.ok()) {
      if (model.error().code == ErrorCode::out_of_memory && evict_one(lock)) continue;
      return std::move(model).error();
    }
    *load_seconds = os::monotonic_seconds() - start;
    Resident& r = list_.emplace_back();
    r.model = std::move(*model);
    r.name = key_of(request.model);
    r.asked_threads = options.threads;
    r.keep_alive = options_.keep_alive_seconds;
    r.users = 1;
    return &r;
  }
}

void Residents::release(Resident& resident) {
  resident.users--;
  resident.idle_since = os::monotonic_seconds();
}

bool Residents::stop(const std::string& model) {
  bool any = false;
  for (auto& r : list_)
    if (r.name == model) {
      r.keep_alive = 0;
      any = true;
    }
  return any;
}

void Residents::unload_expired(Lock& lock) {
  std::list<Resident> gone;
  const double now = os::monotonic_seconds();
  for (auto it = list_.begin(); it != list_.end();) {
    const auto next = std::next(it);
    if (it->users == 0 && it->keep_alive >= 0 && now >= it->idle_since + it->keep_alive)
      gone.splice(gone.end(), list_, it);
    it = next;
  }
  if (gone.empty()) return;
  lock.unlock();
  gone.clear();
  lock.lock();
}

void Residents::join() {
  for (auto& r : list_) r.model.reset();
}

}  // namespace ponder::runtime
