// Events from threads of the runtime to one coroutine, in order. The producer may outlive the coroutine, and even the
// server: once the reader is gone the channel keeps nothing that belongs to the server's event loop.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace ponder::server {

template <class Event>
class Channel : public std::enable_shared_from_this<Channel<Event>> {
 public:
  explicit Channel(boost::asio::any_io_executor executor)
      : executor_(std::move(executor)), timer_(std::in_place, executor_) {}

  /// From any thread.
  void push(Event event) {
    std::lock_guard lock(mutex_);
    if (!timer_) return;  // nobody reads any more
    events_.push_back(std::move(event));
    post_wake();
  }
  /// From any thread: next() looks at the reason why.
  void wake() {
    std::lock_guard lock(mutex_);
    if (timer_) post_wake();
  }

  /// On the coroutine's executor. Waits for an event or a wake(); false when there was none.
  boost::asio::awaitable<bool> next(Event& event) {
    if (take(event)) co_return true;
    timer_->expires_at(boost::asio::steady_timer::time_point::max());
    boost::system::error_code ignored;
    auto token = boost::asio::redirect_error(boost::asio::use_awaitable, ignored);
    co_await timer_->async_wait(token);
    co_return take(event);
  }

 private:
  template <class>
  friend class ChannelReader;

  // A wake is posted to the coroutine's strand, so it cannot come between its look at the queue and its wait.
  void post_wake() {
    boost::asio::post(executor_, [weak = this->weak_from_this()] {
      if (auto self = weak.lock()) self->cancel_wait();
    });
  }

  void cancel_wait() {
    std::lock_guard lock(mutex_);
    if (timer_) timer_->cancel();
  }

  void close() {
    std::lock_guard lock(mutex_);
    events_.clear();
    timer_.reset();
    executor_ = {};
  }

  bool take(Event& event) {
    std::lock_guard lock(mutex_);
    if (events_.empty()) return false;
    event = std::move(events_.front());
    events_.pop_front();
    return true;
  }

  std::mutex mutex_;
  boost::asio::any_io_executor executor_;
  std::optional<boost::asio::steady_timer> timer_;  // absent: closed
  std::deque<Event> events_;
};

/// The coroutine's end of a channel: closes it when the coroutine ends, also when it is destroyed half way.
template <class Event>
class ChannelReader {
 public:
  explicit ChannelReader(boost::asio::any_io_executor executor)
      : channel_(std::make_shared<Channel<Event>>(std::move(executor))) {}
  ~ChannelReader() { channel_->close(); }
  ChannelReader(const ChannelReader&) = delete;
  ChannelReader& operator=(const ChannelReader&) = delete;

  const std::shared_ptr<Channel<Event>>& shared() const { return channel_; }  // for the producer
  boost::asio::awaitable<bool> next(Event& event) { return channel_->next(event); }

 private:
  std::shared_ptr<Channel<Event>> channel_;  // shared with the producer
};

}  // namespace ponder::server
