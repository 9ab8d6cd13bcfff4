#include "src/engine/failure.h"

#include "lgreco/status.h"

namespace lgreco {
namespace {

Failure::Kind kind_of(const std::exception& failure) {
#define LGRECO_IF(name, Class) \
  if (dynamic_cast<const Class*>(&failure) != nullptr) return Failure::Kind::name;
  LGRECO_ERRORS(LGRECO_IF)
#undef LGRECO_IF
  return Failure::Kind::other;
}

}  // namespace

Failure Failure::current(const std::string& place) {
  try {
    throw;
  } catch (const std::exception& error) {
    return {kind_of(error), place + error.what()};
  } catch (...) {
    return {Kind::other, place + "an exception that is no std::exception"};
  }
}

std::exception_ptr Failure::exception() const {
  switch (kind) {
#define LGRECO_CASE(name, Class) \
  case Kind::name:               \
    return std::make_exception_ptr(Class(message));
    LGRECO_ERRORS(LGRECO_CASE)
#undef LGRECO_CASE
    case Kind::other:
      break;
  }
  return std::make_exception_ptr(Error(message));
}

}  // namespace lgreco
