// Why a step was lost, in a form that can be told to the other ranks.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

namespace lgreco {

struct Failure {
  /// Which class below lgreco::Error, with the names of LGRECO_ERRORS; the values are on the
  /// wire.
  enum class Kind : std::uint8_t {
    other = 1,
    config = 2,
    protocol = 3,
    mismatch = 4,
    peer = 5,
    state = 6
  };

  Kind kind = Kind::other;
  std::string message;

  /// Of the exception that is being handled, with `place` in front of its message.
  /// REQUIRES: called inside a catch block.
  static Failure current(const std::string& place);

  std::exception_ptr exception() const;
};

}  // namespace lgreco
