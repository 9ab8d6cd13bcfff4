// Replaces the global operator new of a test binary by one that counts. Include it in one file of
// the binary.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace lgreco {

/// How often memory was taken from the heap, by any thread.
inline std::atomic<std::size_t> allocations{0};

inline void* counted_new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace lgreco

void* operator new(std::size_t size) { return lgreco::counted_new(size); }
void* operator new[](std::size_t size) { return lgreco::counted_new(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++lgreco::allocations;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
