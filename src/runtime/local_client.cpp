// Client over a Runtime of this process: asynchronous calls made to wait.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "runtime/client.h"

namespace ponder::runtime {
namespace {

class LocalClient : public Client {
 public:
  explicit LocalClient(Runtime& runtime) : runtime_(runtime) {}

  Result<ChatResult> chat(const ChatRequest& request, const ChatSink& sink, const CancelFlag* cancel) override {
    std::mutex mutex;
    std::condition_variable ended;
    std::optional<Result<ChatResult>> outcome;
    auto flag = std::make_shared<CancelFlag>(false);  // the runtime looks at this one; ours may not outlive the call

    ChatSink inner = sink;
    const auto end = [&](Result<ChatResult> r) {
      std::lock_guard lock(mutex);
      outcome = std::move(r);
      ended.notify_all();
    };
    inner.on_done = [&](ChatResult r) { end(std::move(r)); };
    inner.on_error = [&](Error e) { end(std::move(e)); };
    runtime_.chat(request, std::move(inner), flag);

    std::unique_lock lock(mutex);
    while (!outcome) {
      if (cancel && *cancel) *flag = true;
      ended.wait_for(lock, std::chrono::milliseconds(20));
    }
    return std::move(*outcome);
  }

  Result<std::vector<store::ModelInfo>> list() override { return runtime_.store().list(); }
  Result<std::vector<RunningModel>> running() override { return runtime_.running(); }
  Result<bool> exists(const std::string& model) override {
    const auto found = runtime_.store().resolve(model);
    if (!found.ok() && found.error().code != ErrorCode::not_found) return found.error();
    return found.ok();
  }
  Result<ShowResult> show(const std::string& model, bool verbose) override { return runtime_.show(model, verbose); }

  Result<void> pull(const std::string& model, bool insecure,
                    const std::function<void(const store::PullProgress&)>& progress,
                    const CancelFlag* cancel) override {
    PONDER_TRY(const auto name, store::Name::parse(model));
    store::PullOptions options;
    options.insecure = insecure;
    options.progress = progress;
    options.cancelled = [cancel] { return cancel != nullptr && cancel->load(); };
    auto info = store::pull(runtime_.store(), name, options);
    if (!info.ok()) return std::move(info).error();
    return {};
  }

  Result<void> remove(const std::string& model) override {
    PONDER_TRY(const auto name, store::Name::parse(model));
    (void)runtime_.stop(model);
    return runtime_.store().remove(name);
  }

  Result<void> stop(const std::string& model) override { return runtime_.stop(model); }

  Result<std::string> control(const std::string& id, const Control& control) override {
    return runtime_.control(id, control);
  }

 private:
  Runtime& runtime_;
};

}  // namespace

std::unique_ptr<Client> make_local_client(Runtime& runtime) { return std::make_unique<LocalClient>(runtime); }

}  // namespace ponder::runtime
