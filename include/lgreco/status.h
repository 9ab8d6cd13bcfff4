// What can go wrong, in two groups (docs/design.md, "Errors").
//
// `Status` is returned where failure is expected input: decoding bytes that came from elsewhere.
// Exceptions below `Error` are thrown where the caller or the outside world broke a contract. Every
// message names what was wrong, where (layer, step, rank) and what to do about it.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace lgreco {

/// The result of reading foreign bytes: ok, or a reason for refusing them.
class [[nodiscard]] Status {
 public:
  static Status ok() { return Status(); }
  static Status corrupt(std::string reason) {
    Status status;
    status.reason_ = std::move(reason);
    return status;
  }

  bool is_ok() const { return reason_.empty(); }
  /// Empty when ok.
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

/// Base of everything the library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Wrong use: an unknown method, a parameter out of range, an unsupported dtype.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// The ranks differ: in their settings (before the first step) or in their parameters.
class MismatchError : public Error {
 public:
  using Error::Error;
};

/// A peer or the network failed. The communicator is unusable from here on.
class PeerError : public Error {
 public:
  using Error::Error;
};

/// A peer's message is not what the plan says it must be.
class ProtocolError : public Error {
 public:
  using Error::Error;
};

/// A state, plan or checkpoint cannot be loaded here.
class StateError : public Error {
 public:
  using Error::Error;
};

/// The classes below Error: X(name, class) for each. Whatever tells them apart (other ranks, other
/// languages) goes through this list.
#define LGRECO_ERRORS(X)     \
  X(config, ConfigError)     \
  X(mismatch, MismatchError) \
  X(peer, PeerError)         \
  X(protocol, ProtocolError) \
  X(state, StateError)

}  // namespace lgreco
