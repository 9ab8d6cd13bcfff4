#include "tests/fake_device/pinned_memory.h"

#include <ATen/core/CachingHostAllocator.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "tests/fake_device/mapping.h"

namespace fake_device {
namespace {

std::atomic<bool> pinning_fails{false};

class PinnedMemory {
 public:
  static PinnedMemory& get() {
    static auto* const memory = new PinnedMemory;
    return *memory;
  }

  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes = in_whole_pages(bytes);
    auto& idle = idle_[bytes];
    std::size_t at = 0;
    if (!idle.empty()) {
      at = idle.back();
      idle.pop_back();
    } else {
      at = used_;
      used_ += bytes;
      TORCH_CHECK(used_ <= mapping_.bytes(), "fake device: pinned memory is used up");
    }
    blocks_[at] = {.bytes = bytes, .rights = Mapping::Rights::all, .accesses = {}};
    return mapping_.host() + at;
  }

  // Whoever copies holds the tensor until it has: nothing is under way any more.
  void free(void* pointer) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(static_cast<char*>(pointer) - mapping_.host());
    set_rights(*found, Mapping::Rights::all);
    idle_[found->second.bytes].push_back(found->first);
    blocks_.erase(found);
  }

  bool contains(const void* pointer) const { return mapping_.contains(pointer); }
  void* for_kernel(const void* pointer) const { return mapping_.for_kernel(pointer); }

  void add(const void* pointer, const StreamKey& stream, Kind kind) {
    const std::lock_guard lock(mutex_);
    auto& block =
        *std::prev(blocks_.upper_bound(static_cast<const char*>(pointer) - mapping_.host()));
    block.second.accesses.add(stream, kind, "a copy");
    set_rights(block, rights_of(block.second, clock_of_host()));
  }

  void let_host_use() {
    const Clock host = clock_of_host();
    const std::lock_guard lock(mutex_);
    for (auto& block : blocks_) set_rights(block, rights_of(block.second, host));
  }

 private:
  struct Block {
    std::size_t bytes = 0;
    Mapping::Rights rights = Mapping::Rights::all;
    Accesses accesses;
  };

  static Mapping::Rights rights_of(const Block& block, const Clock& host) {
    if (!block.accesses.may(Kind::read, host)) return Mapping::Rights::none;
    return block.accesses.may(Kind::write, host) ? Mapping::Rights::all : Mapping::Rights::read;
  }

  void set_rights(std::pair<const std::size_t, Block>& block, Mapping::Rights rights) {
    if (block.second.rights == rights) return;
    mapping_.set_rights(mapping_.host() + block.first, block.second.bytes, rights);
    block.second.rights = rights;
  }

  const Mapping mapping_{std::size_t{8} << 30, Mapping::Rights::all,
                         "pinned memory that a copy was still to fill or to read"};
  std::mutex mutex_;  // of what follows
  std::size_t used_ = 0;
  std::map<std::size_t, Block> blocks_;                   // by offset
  std::map<std::size_t, std::vector<std::size_t>> idle_;  // offsets, by size
};

void delete_pinned(void* pointer) { PinnedMemory::get().free(pointer); }

struct PinnedAllocator final : at::HostAllocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    TORCH_CHECK(!pinning_fails, "fake device: memory cannot be pinned");
    if (bytes == 0) return {nullptr, c10::kCPU};
    void* pointer = PinnedMemory::get().allocate(bytes);
    return {pointer, pointer, delete_pinned, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return delete_pinned; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::copy_n(static_cast<const char*>(from), count, static_cast<char*>(to));
  }
  bool record_event(void*, void*, c10::Stream) override { return true; }
  void empty_cache() override {}
  at::HostStats get_stats() override { return {}; }
  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};
PinnedAllocator allocator;
REGISTER_HOST_ALLOCATOR(c10::kPrivateUse1, &allocator)

}  // namespace

bool is_pinned(const void* pointer) { return PinnedMemory::get().contains(pointer); }
void* pinned_for_kernel(const void* pointer) { return PinnedMemory::get().for_kernel(pointer); }
void add_pinned_access(const void* pointer, const StreamKey& stream, Kind kind) {
  PinnedMemory::get().add(pointer, stream, kind);
}
void let_host_use_pinned_memory() { PinnedMemory::get().let_host_use(); }
void set_pinning_fails(bool fails) { pinning_fails = fails; }
c10::Allocator* pinned_allocator() { return &allocator; }

}  // namespace fake_device
