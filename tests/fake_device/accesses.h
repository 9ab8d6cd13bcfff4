// Who touched a block of memory last.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tests/fake_device/clocks.h"

namespace fake_device {

enum class Kind { read, write };

/// The accesses of one block that later ones must wait for. Not thread-safe.
class Accesses {
 public:
  /// The next submission to `stream` is `what`. Reports a race when something that conflicts need
  /// not be over by then.
  void add(const StreamKey& stream, Kind kind, const std::string& what);
  /// The host has seen that these were over, in another way than by waiting.
  void forget(const StreamKey& stream);

  /// Whether the host may read or write the block without waiting.
  bool may(Kind kind, const Clock& host) const;

 private:
  struct Access {
    std::uint64_t position = 0;
    std::string what;
  };

  StreamKey writer_{0, 0};
  Access written_;
  std::map<StreamKey, Access> readers_;
};

}  // namespace fake_device
