// What belongs to the process that made it: objects with threads, locks and connections.
//
// A forked child has copies of its parent's objects. The threads behind them do not exist there,
// their locks may be held for ever, and their connections are the parent's: in a child nothing of
// them may be joined, locked, closed or waited for.
#pragma once

#include <memory>
#include <utility>

namespace lgreco {

/// Remembers the process that it was made in.
class OwnerProcess {
 public:
  OwnerProcess();

  bool is_here() const;
  /// Throws ConfigError in every other process. `tag` is of whom, such as "[aggregator]".
  void require_here(const char* tag) const;

 private:
  long id_;
};

/// A value that is used, and destroyed, by the process that made it alone: a forked child leaves
/// its copy as it is.
template <typename T>
class WhereMade {
 public:
  explicit WhereMade(T value) : value_(std::move(value)) {}
  ~WhereMade() {
    if (is_here()) std::destroy_at(&value_);
  }
  WhereMade(const WhereMade&) = delete;
  WhereMade& operator=(const WhereMade&) = delete;

  bool is_here() const { return owner_.is_here(); }
  /// Throws ConfigError in every other process.
  const T& get(const char* tag) const {
    owner_.require_here(tag);
    return value_;
  }

 private:
  OwnerProcess owner_;
  union {  // not destroyed by itself
    T value_;
  };
};

}  // namespace lgreco
