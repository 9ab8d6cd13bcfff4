// The floating-point environment of a thread, which the user's program may have changed.
#pragma once

#include <cfenv>

namespace lgreco {

/// While it lives, this thread, and every thread that it starts, rounds to nearest and keeps
/// denormals (torch.set_flush_denormal), so that results depend on no setting of one rank.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&before_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t before_;
};

}  // namespace lgreco
