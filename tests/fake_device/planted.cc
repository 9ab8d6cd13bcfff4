#include "tests/fake_device/planted.h"

#include <cstring>
#include <mutex>
#include <string>

namespace lgreco {
namespace {

std::mutex mutex;
std::string planted_mistake;

}  // namespace

bool is_planted(const char* mistake) {
  const std::lock_guard lock(mutex);
  return planted_mistake == mistake;
}

/// Called by Python, through ctypes.
extern "C" __attribute__((visibility("default"))) void plant(const char* mistake) {
  const std::lock_guard lock(mutex);
  planted_mistake = mistake;
}

}  // namespace lgreco
