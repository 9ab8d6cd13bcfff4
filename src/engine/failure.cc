#include "src/engine/failure.h"

#include "lgreco/status.h"

namespace lgreco {

Failure Failure::current(const std::string& place) {
  try {
    throw;
  } catch (const PeerError& error) {
    return {Kind::peer, place + error.what()};
  } catch (const ProtocolError& error) {
    return {Kind::protocol, place + error.what()};
  } catch (const MismatchError& error) {
    return {Kind::mismatch, place + error.what()};
  } catch (const ConfigError& error) {
    return {Kind::config, place + error.what()};
  } catch (const StateError& error) {
    return {Kind::state, place + error.what()};
  } catch (const std::exception& error) {
    return {Kind::other, place + error.what()};
  } catch (...) {
    return {Kind::other, place + "an exception that is no std::exception"};
  }
}

std::exception_ptr Failure::exception() const {
  switch (kind) {
    case Kind::peer:
      return std::make_exception_ptr(PeerError(message));
    case Kind::protocol:
      return std::make_exception_ptr(ProtocolError(message));
    case Kind::mismatch:
      return std::make_exception_ptr(MismatchError(message));
    case Kind::state:
      return std::make_exception_ptr(StateError(message));
    case Kind::config:
      return std::make_exception_ptr(ConfigError(message));
    case Kind::other:
      break;
  }
  return std::make_exception_ptr(Error(message));
}

}  // namespace lgreco
