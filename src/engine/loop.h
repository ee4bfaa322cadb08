// The engine's inside: the loop, who is resident, and the door for other threads.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

namespace ponder::engine {

class Loop final : public Engine {
 public:
  Loop(std::unique_ptr<backend::Plan> plan, const EngineOptions& options);
  ~Loop() override;

  void start() override;
  bool step() override;
  Result<SequenceId> submit(SequenceRequest request) override;
  Result<std::vector<SequenceId>> submit_all(SequenceRequest request, std::vector<Branch> branches) override;
  Result<SequenceId> fork(SequenceId source, uint32_t stream, std::vector<std::shared_ptr<Controller>> controllers,
                          Sink sink) override;
  void cancel(SequenceId id) override;
  EngineStatus status() const override;
  const backend::Plan& plan() const override { return *plan_; }

 private:
  struct ForkCommand {
    SequenceId source, id;
    uint32_t stream;
    std::vector<std::shared_ptr<Controller>> controllers;
    std::shared_ptr<Recording> recording;
    Sink sink;
  };
  using Command = std::variant<std::unique_ptr<Sequence>, ForkCommand>;
  struct Share {  // of the batch being made
    Sequence* sequence;
    int rows;
    bool draw;
    int drafts;  // further rows, after those
  };

  // loop.cpp: one turn, in this order.
  bool take_commands();
  void poll_controllers();
  std::vector<Share> schedule();
  backend::Batch assemble(const std::vector<Share>& shares);
  Result<std::vector<backend::RowResult>> run(const backend::Batch& batch, const std::vector<Share>& shares);
  void settle(const std::vector<Share>& shares, const Result<std::vector<backend::RowResult>>& results);
  void reap();
  void publish();
  void carry_out(ForkCommand command);
  bool is_cancelled(SequenceId id) const;
  void finish_all();

  // background.cpp: prompts for later, while there is nothing else to do.
  void work_ahead();
  void drop_background();

  // residence.cpp: pages.
  void admit();
  bool worth_waiting(const Sequence& s) const;
  bool settle_in(Sequence& s);
  int pages_held() const;
  bool make_place(Sequence& s, int rows, std::vector<Share>& shares);
  void preempt(Sequence& s, std::vector<Share>& shares);
  void index_pages(Sequence& s);
  Sequence* find(SequenceId id) const;

  // The engine's thread only. Both lists are kept oldest first.
  std::unique_ptr<backend::Plan> plan_;
  EngineOptions options_;
  Scheduler scheduler_;
  StepCost cost_;                                    // of the last step
  std::unique_ptr<backend::kv::PrefixIndex> index_;  // null when switched off
  std::vector<std::unique_ptr<Sequence>> running_, waiting_, background_;
  uint64_t turn_ = 0;
  EngineStatus counts_;  // steps and tokens, copied out by publish()

  // Shared with other threads, under mutex_.
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Command> commands_;
  std::unordered_set<SequenceId> live_, cancelled_;
  std::vector<SequenceId> in_flight_;
  bool background_in_flight_ = false;
  EngineStatus status_;
  SequenceId next_id_ = 1;
  bool quit_ = false;

  backend::StopFlag stop_{false};  // of the batch in flight
  std::thread thread_;
};

}  // namespace ponder::engine
