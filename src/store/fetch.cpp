// Retrying. A try that moved data resets the count, so that a long download over a bad line ends,
// while a dead peer is given up on after `attempts`. Resuming trusts nothing: the range's start,
// the total and the ETag are compared, and the digest covers the whole.
#include "store/fetch.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <thread>

#include "base/os/file.h"
#include "base/os/system.h"

namespace ponder::store {
namespace {

constexpr uint64_t kSpaceMargin = uint64_t(64) << 20;
constexpr uint64_t kSpaceStep = uint64_t(64) << 20;    // of unknown length: look at the disk this often
constexpr uint64_t kRealProgress = uint64_t(1) << 20;  // bytes that make a try count as a success
constexpr int kUnreachableTries = 3;
constexpr int kMaxRetryAfter = 30;

bool transient_status(int status) {
  return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

std::optional<uint64_t> parse_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// "bytes 100-199/1000": start and total.
struct ContentRange {
  uint64_t start, total;
};
std::optional<ContentRange> parse_range(std::string_view text) {
  if (!text.starts_with("bytes ")) return std::nullopt;
  text.remove_prefix(6);
  const size_t dash = text.find('-'), slash = text.find('/');
  if (dash == text.npos || slash == text.npos || dash > slash) return std::nullopt;
  const auto start = parse_number(text.substr(0, dash)), total = parse_number(text.substr(slash + 1));
  if (!start || !total) return std::nullopt;
  return ContentRange{*start, *total};
}

int retry_after(const HttpResponse& response) {
  const auto seconds = parse_number(response.header("retry-after"));
  return seconds ? int(std::min<uint64_t>(*seconds, kMaxRetryAfter)) : 0;
}

bool strong_etag(const std::string& etag) { return etag.size() > 2 && etag[0] == '"'; }

std::string bytes_text(uint64_t n) { return std::to_string(n) + " bytes"; }

// One download: what the callbacks of its tries share.
struct Running {
  const Download& what;
  BlobWriter blob;
  std::string root;
  std::string etag;               // of the content so far
  std::optional<uint64_t> total;  // as announced
  uint64_t skip = 0;              // of this try: bytes that are here already and come again
  uint64_t space_checked = 0;
  bool restart = false;  // the content changed and nothing proves what is here: begin anew

  Result<void> head(const HttpResponse& response);
  Result<void> data(std::string_view piece);
};

Result<void> Running::head(const HttpResponse& response) {
  const auto changed = [&]() -> Result<void> {
    restart = true;
    return Error{ErrorCode::network, "the content changed while it was downloaded"};
  };
  const std::string encoding = response.header("content-encoding");
  if (!encoding.empty() && encoding != "identity")
    return Error{ErrorCode::network, "the server compressed " + what.what + " although it was not asked to"};
  const uint64_t have = blob.size();
  const std::string new_etag = response.header("etag");
  std::optional<uint64_t> now_total;
  skip = 0;
  if (response.status == 206) {
    const auto range = parse_range(response.header("content-range"));
    if (have == 0 || !range || range->start != have)
      return Error{ErrorCode::network, "the server answered with another part of " + what.what + " than was asked for"};
    now_total = range->total;
  } else {
    now_total = parse_number(response.header("content-length"));
    skip = have;
  }
  if (have > 0) {
    const bool same_length = !total || !now_total || *total == *now_total;
    const bool same_tag = strong_etag(etag) && etag == new_etag;
    if (!same_length) return changed();
    if (!what.digest && !same_tag) return changed();
  }
  etag = new_etag;
  if (now_total) total = now_total;
  if (what.size && now_total && *now_total != *what.size)
    return Error{ErrorCode::network, "the server offers " + bytes_text(*now_total) + " for " + what.what +
                                         " instead of " + bytes_text(*what.size)};
  if (total && *total > what.max_size)
    return Error{ErrorCode::network, what.what + " is larger than anything that Ponder could load"};
  if (total && !what.size) PONDER_CHECK_OK(check_space(root, *total - std::min(*total, have)));
  return {};
}

Result<void> Running::data(std::string_view piece) {
  if (skip > 0) {
    const size_t n = size_t(std::min<uint64_t>(skip, piece.size()));
    piece.remove_prefix(n);
    skip -= n;
  }
  if (!what.size && !total && blob.size() >= space_checked) {
    PONDER_CHECK_OK(check_space(root, kSpaceStep));
    space_checked = blob.size() + kSpaceStep;
  }
  PONDER_CHECK_OK(blob.write(piece));
  if (what.progress) what.progress(blob.size(), what.size.value_or(total.value_or(0)));
  return {};
}

}  // namespace

void Progress::status(const std::string& text) {
  now_ = PullProgress{text, "", 0, 0};
  emit();
}

void Progress::begin(const Digest* digest, const std::string& name, uint64_t total) {
  now_ = PullProgress{"pulling " + name, digest != nullptr ? digest->to_string() : "", total, 0};
  emit();
}

void Progress::at(uint64_t completed) {
  if (completed <= now_.completed) return;
  now_.completed = now_.total > 0 ? std::min(completed, now_.total) : completed;
  if (os::monotonic_seconds() - last_ >= 0.1) emit();
}

void Progress::end() {
  if (now_.total == 0) now_.total = now_.completed;
  now_.completed = now_.total;
  emit();
}

void Progress::emit() {
  last_ = os::monotonic_seconds();
  if (options_.progress) options_.progress(now_);
}

Result<void> check_cancelled(const PullOptions& options) {
  if (options.cancelled && options.cancelled()) return Error{ErrorCode::cancelled, "cancelled"};
  return {};
}

Result<void> check_space(const std::string& root, uint64_t bytes) {
  const auto space = os::free_space(root);
  if (!space.ok()) return {};  // not every file system tells; the write itself will
  if (bytes > *space || *space - bytes < kSpaceMargin)
    return Error{ErrorCode::out_of_memory, "not enough space on the disk of " + root + ": " + bytes_text(bytes) +
                                               " are needed besides a margin of 64 MiB, " + bytes_text(*space) +
                                               " are free; PONDER_MODELS names another folder"};
  return {};
}

Result<Fetcher> Fetcher::create(const PullOptions& options, bool allow_http) {
  HttpOptions http;
  http.insecure = options.insecure;
  http.allow_http = allow_http;
  http.connect_timeout_s = std::max(1, options.connect_timeout_s);
  http.stall_timeout_s = std::max(1, options.stall_timeout_s);
  http.cancelled = options.cancelled;
  PONDER_TRY(HttpClient client, HttpClient::create(std::move(http)));
  return Fetcher(std::move(client), options);
}

Result<void> Fetcher::pause(int attempt, int retry_after_s) {
  const int64_t doubled = int64_t(std::max(0, options_->first_delay_ms)) << std::min(attempt, 10);
  const int64_t ms = std::max<int64_t>(std::min<int64_t>(doubled, 8000), int64_t(retry_after_s) * 1000);
  const double end = os::monotonic_seconds() + double(ms) / 1000;
  while (os::monotonic_seconds() < end) {
    PONDER_CHECK_OK(check_cancelled(*options_));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return check_cancelled(*options_);
}

Error Fetcher::status_error(const HttpResponse& response, const std::string& what) {
  const std::string status = std::to_string(response.status);
  if (response.status == 404 || response.status == 410)
    return Error{ErrorCode::not_found, what + " does not exist there (HTTP " + status + ")"};
  if (response.status == 401 || response.status == 403)
    return Error{ErrorCode::permission, what + " is private or does not exist (HTTP " + status + ")"};
  return Error{ErrorCode::network, "the server answered HTTP " + status + " for " + what};
}

Result<HttpResponse> Fetcher::get(const HttpRequest& request) {
  for (int attempt = 0;; ++attempt) {
    PONDER_CHECK_OK(check_cancelled(*options_));
    HttpResponse response;
    HttpError error;
    int wait_s = 0, tries = options_->attempts;
    if (http_.send(request, nullptr, &response, &error)) {
      if (!transient_status(response.status)) return response;
      wait_s = retry_after(response);
      if (attempt + 1 >= tries) return response;
    } else {
      if (error.unreachable) tries = std::min(tries, kUnreachableTries);
      if (!error.transient || attempt + 1 >= tries) return std::move(error.error);
    }
    PONDER_CHECK_OK(pause(attempt, wait_s));
  }
}

Result<std::string> Fetcher::peek(const HttpRequest& request, size_t n) {
  std::string start;
  const HttpSink sink{nullptr, [&](std::string_view piece) -> Result<void> {
                        start += piece.substr(0, n - start.size());
                        if (start.size() == n) return Error{ErrorCode::cancelled, "enough"};
                        return {};
                      }};
  for (int attempt = 0;; ++attempt) {
    HttpResponse response;
    HttpError error;
    start.clear();
    const bool answered = http_.send(request, &sink, &response, &error);
    if (start.size() == n || (answered && response.status == 200)) return start;
    PONDER_CHECK_OK(check_cancelled(*options_));
    const bool again = answered ? transient_status(response.status) : error.transient;
    if (!again || attempt + 1 >= options_->attempts)
      return answered ? status_error(response, "a layer of the model") : std::move(error.error);
    PONDER_CHECK_OK(pause(attempt, retry_after(response)));
  }
}

Result<BlobWriter> Fetcher::download(Store& store, const Download& what) {
  PONDER_TRY(BlobWriter blob, store.new_blob());
  Running run{what, std::move(blob), store.root(), "", {}, 0, 0, false};
  const HttpSink sink{[&](const HttpResponse& head) { return run.head(head); },
                      [&](std::string_view piece) { return run.data(piece); }};
  HttpRequest request = what.request;
  bool authorized = false;
  int restarts = 0;
  for (int attempt = 0;; ++attempt) {
    PONDER_CHECK_OK(check_cancelled(*options_));
    const uint64_t before = run.blob.size();
    request.range_from = before;
    request.if_range = before > 0 && strong_etag(run.etag) ? run.etag : "";
    // A reply that ignores the range sends everything again, so the limit is that of the whole.
    request.body_limit = what.size.value_or(what.max_size);
    HttpResponse response;
    HttpError error;
    int wait_s = 0, tries = options_->attempts;
    Error failure;
    bool again = true;
    if (http_.send(request, &sink, &response, &error)) {
      const bool good = response.status == 200 || response.status == 206;
      const uint64_t wanted = what.size.value_or(run.total.value_or(run.blob.size()));
      if (good && run.blob.size() == wanted && run.skip == 0) {
        PONDER_TRY(const Digest digest, run.blob.digest());
        if (what.digest && digest != *what.digest)
          return Error{ErrorCode::network, "digest mismatch: " + what.what + " arrived altered (its content is " +
                                               digest.to_string() + "); nothing was kept, try again"};
        return std::move(run.blob);
      }
      if (good && run.blob.size() > wanted)
        return Error{ErrorCode::network, "the server sent more than the " + bytes_text(wanted) + " of " + what.what};
      if (good) {
        failure = Error{ErrorCode::network, "the server sent only " + bytes_text(run.blob.size()) + " of the " +
                                                bytes_text(wanted) + " of " + what.what};
      } else if (response.status == 401 && what.authorize && !authorized) {
        PONDER_TRY(const bool retry, what.authorize(response, request));
        if (!retry) return status_error(response, what.what);
        authorized = true;
        --attempt;
        continue;
      } else if (response.status == 416 && before > 0) {
        run.restart = true;  // the peer has less than we have: its content changed
        failure = status_error(response, what.what);
      } else {
        failure = status_error(response, what.what);
        again = transient_status(response.status);
        wait_s = retry_after(response);
      }
    } else {
      failure = std::move(error.error);
      again = error.transient || run.restart;
      if (error.unreachable) tries = std::min(tries, kUnreachableTries);
    }
    authorized = false;
    if (!again) return failure;
    if (run.restart) {
      if (++restarts > 2) return failure;
      PONDER_TRY(BlobWriter fresh, store.new_blob());
      run.blob = std::move(fresh);
      run.etag.clear();
      run.total.reset();
      run.restart = false;
    } else if (run.blob.size() >= before + kRealProgress) {
      attempt = 0;
    }
    if (attempt + 1 >= tries) return failure;
    PONDER_CHECK_OK(pause(attempt, wait_s));
  }
}

}  // namespace ponder::store
