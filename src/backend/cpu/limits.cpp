// The best of several short rounds each: a round is lost when another process gets in, and the limit is what is asked.
#include "backend/cpu/limits.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "backend/cpu/isa/linear_kernels.h"
#include "base/os/memory.h"
#include "base/os/system.h"
#include "base/thread_pool.h"

namespace ponder::backend::cpu {
namespace {

constexpr uint64_t kBytes = uint64_t(256) << 20;  // far more than any cache
constexpr double kSeconds = 0.1;                  // of measuring each, after the memory has been touched
constexpr int64_t kMacs = int64_t(1) << 30;       // a round per thread: milliseconds

/// The best rate of `work` units per second over rounds of run(thread), for about kSeconds.
template <class Round>
double best_rate(ThreadPool& pool, double work, Round round) {
  double best = 0;
  const double start = os::monotonic_seconds();
  for (int i = 0; i < 64; i++) {
    const double t0 = os::monotonic_seconds();
    pool.run(round);
    const double t1 = os::monotonic_seconds();
    best = std::max(best, work / std::max(t1 - t0, 1e-9));
    if (i >= 1 && t1 - start > kSeconds) break;
  }
  return best;
}

}  // namespace

double measure_read_gbs(ThreadPool& pool, const std::vector<std::span<const uint8_t>>& shares, isa::Level level) {
  const isa::LinearKernels& kernels = isa::linear_kernels(level);
  double bytes = 0, best = 0;
  for (const auto& share : shares) bytes += double(share.size());
  std::atomic<uint64_t> sink{0};
  for (const bool prefetch : {true, false})  // which way is faster differs between machines
    best = std::max(best, best_rate(pool, bytes, [&](int t) {
                      sink ^= kernels.read(shares[size_t(t)].data(), shares[size_t(t)].size(), prefetch);
                    }));
  return best * 1e-9;
}

Result<double> measure_read_gbs(int threads, isa::Level level) {
  threads = std::max(threads, 1);
  PONDER_TRY(os::Arena arena, os::Arena::allocate(kBytes + 4096));  // prefetch runs a little past the end
  ThreadPool pool(threads);
  std::vector<std::span<const uint8_t>> shares;
  for (int t = 0; t < threads; t++) {
    const Share pages = share_of(int64_t(kBytes / 4096), t, threads);
    shares.emplace_back(arena.data() + pages.begin * 4096, size_t(pages.end - pages.begin) * 4096);
  }
  pool.run([&](int t) {  // touched by the thread that reads it
    const uint64_t first = uint64_t(shares[size_t(t)].data() - arena.data());
    for (uint64_t i = 0; i < shares[size_t(t)].size(); i += 4096) arena.data()[first + i] = uint8_t(i >> 12 | 1);
  });
  return measure_read_gbs(pool, shares, level);
}

double measure_int8_gmacs(int threads, isa::Level level) {
  threads = std::max(threads, 1);
  const isa::LinearKernels& kernels = isa::linear_kernels(level);
  ThreadPool pool(threads);
  std::atomic<uint64_t> done{0};
  std::atomic<int32_t> sink{0};
  // The kernels do about as much as asked for; a first round tells how much that is.
  auto round = [&](int) {
    int32_t s = sink;
    done += kernels.int8_peak(level == isa::Level::scalar ? kMacs / 32 : kMacs, &s);
    sink ^= s;
  };
  pool.run(round);
  const double work = double(done.load());
  return best_rate(pool, work, round) * 1e-9;
}

Result<MachineLimits> measure_limits(int threads, isa::Level level) {
  MachineLimits limits;
  PONDER_TRY(limits.read_gbs, measure_read_gbs(threads, level));
  limits.int8_gmacs = measure_int8_gmacs(threads, level);
  return limits;
}

}  // namespace ponder::backend::cpu
