#include "lgreco/process.h"

#include <unistd.h>

#include <string>

#include "lgreco/status.h"

namespace lgreco {

OwnerProcess::OwnerProcess() : id_(::getpid()) {}

bool OwnerProcess::is_here() const { return ::getpid() == id_; }

void OwnerProcess::require_here(const char* tag) const {
  if (is_here()) return;
  throw ConfigError(std::string(tag) +
                    " made in another process: a forked child has none of its threads, and its "
                    "connections are the parent's; make one in the process that uses it");
}

}  // namespace lgreco
