#include "tests/fake_device/mapping.h"

#include <c10/util/Exception.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

#include "tests/fake_device/clocks.h"

namespace fake_device {
namespace {

/// What the signal handler looks at, which takes no lock: written before `count` grows.
struct Guarded {
  const char* begin = nullptr;
  const char* end = nullptr;
  const char* what = nullptr;
  bool is_closed = false;  // for ever
  std::atomic<int> touches{0};
};
std::array<Guarded, 4> guarded;
std::atomic<std::size_t> guarded_count{0};
struct sigaction previous_action;

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const auto* address = static_cast<const char*>(info->si_addr);
  for (std::size_t i = 0; i < guarded_count; ++i) {
    Guarded& one = guarded[i];
    if (address < one.begin || address >= one.end) continue;
    ++one.touches;
    const std::size_t offset = (address - one.begin) / page_size() * page_size();
    mprotect(const_cast<char*>(one.begin) + offset, page_size(), PROT_READ | PROT_WRITE);
    return;
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal, info, context);
  } else {
    sigaction(signal, &previous_action, nullptr);  // and fault again
  }
}

void watch_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_size();  // the handler must not be the first to ask
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &previous_action);
  });
}

int protection(Mapping::Rights rights) {
  switch (rights) {
    case Mapping::Rights::none:
      return PROT_NONE;
    case Mapping::Rights::read:
      return PROT_READ;
    case Mapping::Rights::all:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

char* map(std::size_t bytes, int protection, int file) {
  void* memory = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, file, 0);
  TORCH_CHECK(memory != MAP_FAILED, "fake device: cannot map ", bytes, " bytes");
  return static_cast<char*>(memory);
}

}  // namespace

Mapping::Mapping(std::size_t bytes, Rights rights, const char* what) : bytes_(bytes) {
  const int file = memfd_create("fake_device", 0);
  TORCH_CHECK(file >= 0 && ftruncate(file, static_cast<off_t>(bytes)) == 0,
              "fake device: cannot make ", bytes, " bytes of memory");
  host_ = map(bytes, protection(rights), file);
  kernel_ = map(bytes, PROT_READ | PROT_WRITE, file);
  close(file);
  Guarded& one = guarded.at(guarded_count);
  one.begin = host_;
  one.end = host_ + bytes;
  one.what = what;
  one.is_closed = rights == Rights::none;
  ++guarded_count;
  watch_faults();
}

bool Mapping::contains(const void* host_pointer) const {
  const auto* pointer = static_cast<const char*>(host_pointer);
  return pointer >= host_ && pointer < host_ + bytes_;
}

char* Mapping::for_kernel(const void* host_pointer) const {
  TORCH_CHECK(contains(host_pointer), "fake device: a pointer to other memory");
  return kernel_ + (static_cast<const char*>(host_pointer) - host_);
}

void Mapping::set_rights(const void* host_pointer, std::size_t bytes, Rights rights) const {
  char* begin = host_ + (static_cast<const char*>(host_pointer) - host_);
  TORCH_CHECK(mprotect(begin, bytes, protection(rights)) == 0, "fake device: mprotect failed");
}

std::size_t in_whole_pages(std::size_t bytes) {
  return (bytes + page_size() - 1) / page_size() * page_size();
}

void report_touches() {
  for (std::size_t i = 0; i < guarded_count; ++i) {
    Guarded& one = guarded[i];
    const int touches = one.touches.exchange(0);
    if (touches == 0) continue;
    report_race("the host touched " + std::string(one.what) + ", on " + std::to_string(touches) +
                " pages");
    if (one.is_closed) mprotect(const_cast<char*>(one.begin), one.end - one.begin, PROT_NONE);
  }
}

}  // namespace fake_device
