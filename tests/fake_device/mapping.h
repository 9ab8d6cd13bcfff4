// Memory that is mapped twice: for the host, which may lose its rights, and for kernels.
#pragma once

#include <cstddef>

namespace fake_device {

/// Where the host touches memory that it has no right to, the touch is reported as a race, and the
/// page opened, so that the program goes on.
class Mapping {
 public:
  enum class Rights { none, read, all };

  /// `what` is touched when the host must not; for the report. Never unmapped.
  Mapping(std::size_t bytes, Rights rights, const char* what);

  char* host() const { return host_; }
  std::size_t bytes() const { return bytes_; }
  bool contains(const void* host_pointer) const;
  /// The same byte for a kernel.
  char* for_kernel(const void* host_pointer) const;
  /// REQUIRES: whole pages.
  void set_rights(const void* host_pointer, std::size_t bytes, Rights rights) const;

 private:
  char* host_;
  char* kernel_;
  std::size_t bytes_;
};

std::size_t in_whole_pages(std::size_t bytes);

/// Reports what the host has touched, and closes again what it never may.
void report_touches();

}  // namespace fake_device
