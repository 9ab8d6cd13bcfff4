// Memory that processes of one machine have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace lgreco {

/// Belongs to no file, and is gone with the last process that has it, however that ends.
class SharedMemory {
 public:
  /// How another process finds it.
  struct Address {
    std::int64_t process = 0, descriptor = -1;
    std::uint64_t bytes = 0;
    std::uint64_t token = 0;  // so that nothing else is taken for it
  };

  /// New, of `bytes`, which are there when it is; null where there are none to be had.
  static std::unique_ptr<SharedMemory> make(std::size_t bytes);
  /// That of another process, while that process has it; null where it cannot be reached, as from
  /// another container or user.
  static std::unique_ptr<SharedMemory> open(const Address& address);

  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  const Address& address() const { return address_; }
  /// No process that has not opened it yet can do so from here on.
  void hide();
  /// Aligned for any vector.
  std::span<std::byte> bytes() const;

 private:
  SharedMemory() = default;
  bool map(int descriptor, std::size_t bytes);

  Address address_;
  void* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace lgreco
