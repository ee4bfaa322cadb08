// Which sequences get how many rows in the next batch. Sequences that are generating come first, so that nobody's prompt
// stops anybody's answer; what is left of the step's time goes to prompts, shared evenly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace ponder::engine {

/// What one running sequence has to do.
struct Work {
  int pending = 1;                     ///< tokens not yet computed, >= 1
  bool generating = false;             ///< has drawn a token before
  bool may_draw = true;                ///< the row of the last pending token may draw
  uint64_t last_turn = 0;              ///< when it last got rows: who waited longest goes first when not all fit
  std::span<const float> drafts = {};  ///< tokens that a drafter proposes: how likely each is right if those before are
  /// Seconds that its drafts may cost now if none is right.
  double spare = std::numeric_limits<double>::infinity();
};

struct Grant {
  size_t index = 0;  ///< into the work
  int rows = 0;
  bool draw = false;  ///< the last row draws
  int drafts = 0;     ///< further rows after those, each drawing
};

/// Where the seconds of a step went.
struct StepCost {
  double plain = 0;   ///< what it would have taken without drafts
  double drafts = 0;  ///< what they took beyond that
  double token = 0;   ///< a step of its decode rows alone: what a draft that was right saves
};

struct SchedulerLimits {
  int max_rows = 512, max_outputs = 32;
  double target_seconds = 0.1;
};

/// What a step of so many rows takes, as measured of late; between what was measured, a straight line. Machines get slower
/// and faster for reasons of their own, and texts get longer: a measurement of one number of rows moves the others too.
class StepTimes {
 public:
  void measured(int rows, double seconds);
  /// 0 while nothing is known.
  double seconds(int rows) const;
  /// The same where nobody may be surprised: a size never measured (or not of late) may take as long as the next larger
  /// one, or as so many steps of a smaller one.
  double at_most(int rows) const;
  bool known(int rows) const;

 private:
  // 1, 2, 3, ... 16: each has a kernel of its own, or may have; then 24, 32, 48, 64, ... 2048.
  static constexpr int kExact = 16, kSizes = 30;
  static int size_of(int index) {
    return index < kExact ? index + 1 : (index % 2 == 0 ? 24 : 32) << ((index - kExact) / 2);
  }
  struct Entry {
    double seconds = 0;
    uint64_t step = 0;
    int times = 0;
  };
  bool fresh(int index) const;
  static int index_of(int rows);
  Entry entries_[kSizes];
  uint64_t step_ = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits) : limits_(limits) {}

  /// Work is given oldest first; grants come in the same order. Not empty unless there is no work.
  std::vector<Grant> schedule(std::span<const Work> work);
  /// How long a step took: what prompt chunks and drafts are sized by.
  StepCost measured(int decode_rows, int prefill_rows, double seconds, int draft_rows = 0);

 private:
  int prefill_budget(int decode_rows) const;
  void add_drafts(std::span<const Work> work, std::vector<Grant>& grants, int rows_left, int outputs_left) const;

  SchedulerLimits limits_;
  StepTimes times_;
  double decode_seconds_ = 0;  // a step of decode rows only, moving average; 0: not yet known
  double row_seconds_ = 0;     // a further prefill row
  uint64_t turn_ = 0;
};

}  // namespace ponder::engine
