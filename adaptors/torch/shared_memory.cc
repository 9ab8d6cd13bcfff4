#include "adaptors/torch/shared_memory.h"

#ifdef __linux__
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#include <cstring>
#include <random>
#include <string>

namespace lgreco {

// In front of the bytes is the token.
constexpr std::size_t kHeader = 64;

std::span<std::byte> SharedMemory::bytes() const {
  return {static_cast<std::byte*>(mapped_) + kHeader, static_cast<std::size_t>(address_.bytes)};
}

#ifdef __linux__

std::unique_ptr<SharedMemory> SharedMemory::make(std::size_t bytes) {
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  const int descriptor = memfd_create("lgreco", MFD_CLOEXEC);
  if (descriptor < 0) return nullptr;
  memory->address_.descriptor = descriptor;  // the destructor closes it
  const std::size_t all = kHeader + bytes;
  // Now, since a page that is not to be had later would end the process.
  if (posix_fallocate(descriptor, 0, static_cast<off_t>(all)) != 0) return nullptr;
  if (!memory->map(descriptor, all)) return nullptr;
  std::random_device random;
  const std::uint64_t token = (std::uint64_t{random()} << 32 | random()) | 1;
  std::memcpy(memory->mapped_, &token, sizeof token);
  memory->address_ = {getpid(), descriptor, bytes, token};
  return memory;
}

std::unique_ptr<SharedMemory> SharedMemory::open(const Address& address) {
  const std::string path =
      "/proc/" + std::to_string(address.process) + "/fd/" + std::to_string(address.descriptor);
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return nullptr;
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  memory->address_.descriptor = descriptor;
  const std::size_t all = kHeader + static_cast<std::size_t>(address.bytes);
  struct stat found {};
  const bool fits = fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode) &&
                    found.st_size == static_cast<off_t>(all);
  if (!fits || !memory->map(descriptor, all)) return nullptr;
  std::uint64_t token = 0;
  std::memcpy(&token, memory->mapped_, sizeof token);
  if (token != address.token) return nullptr;
  memory->address_.bytes = address.bytes;
  memory->hide();  // what is mapped stays, and programs have few descriptors
  return memory;
}

bool SharedMemory::map(int descriptor, std::size_t bytes) {
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return false;
  mapped_ = mapped;
  mapped_bytes_ = bytes;
  return true;
}

void SharedMemory::hide() {
  if (address_.descriptor >= 0) close(static_cast<int>(address_.descriptor));
  address_.descriptor = -1;
}

SharedMemory::~SharedMemory() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  hide();
}

#else

std::unique_ptr<SharedMemory> SharedMemory::make(std::size_t) { return nullptr; }
std::unique_ptr<SharedMemory> SharedMemory::open(const Address&) { return nullptr; }
bool SharedMemory::map(int, std::size_t) { return false; }
void SharedMemory::hide() {}
SharedMemory::~SharedMemory() = default;

#endif

}  // namespace lgreco
