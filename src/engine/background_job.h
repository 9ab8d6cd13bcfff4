// Work on a thread of its own, whose result is wanted later, if at all.
#pragma once

#include <algorithm>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "src/base/stopwatch.h"
#include "src/engine/failure.h"

namespace lgreco {

/// Used by one thread, beside its own. The destructor waits for the work.
template <typename Result>
class BackgroundJob {
 public:
  /// Without a thread to be had, there will be no result.
  template <typename Work>
  void start(Work work) {
    try {
      future_ = std::async(std::launch::async, [work = std::move(work)] {
        Timed timed;
        {
          const Stopwatch watch(timed.seconds);
          timed.result = work();
        }
        return timed;
      });
    } catch (const std::system_error&) {
      future_ = {};
    }
  }

  /// Also when it never began.
  bool ends_within(std::chrono::milliseconds time) const {
    return !future_.valid() || future_.wait_for(time) == std::future_status::ready;
  }

  /// Once. Nothing when it never began, is not ready within `patience`, or threw: then `failure`
  /// says why. Adds what it took to `seconds`.
  std::optional<Result> take(std::chrono::milliseconds patience, double& seconds,
                             std::string& failure) {
    if (!future_.valid()) {
      failure = "no thread could be had, or the one of an earlier plan still runs";
      return std::nullopt;
    }
    if (!ends_within(patience)) {
      failure = "not ready after " + std::to_string(patience.count()) + " ms";
      return std::nullopt;
    }
    try {
      Timed timed = future_.get();
      seconds += timed.seconds;
      return std::move(timed.result);
    } catch (...) {  // whatever it was: the ranks are told, and keep their plan
      failure = Failure::current("").message;
      return std::nullopt;
    }
  }

 private:
  struct Timed {
    Result result;
    double seconds = 0;
  };

  std::future<Timed> future_;
};

}  // namespace lgreco
