#include "tests/fake_device/device_memory.h"

#include <ATen/ATen.h>

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "tests/fake_device/mapping.h"
#include "tests/fake_device/pinned_memory.h"
#include "tests/fake_device/streams.h"

namespace fake_device {
namespace {

constexpr std::size_t kAlignment = 512;

class DeviceMemory {
 public:
  static DeviceMemory& get() {
    static auto* const memory = new DeviceMemory;
    return *memory;
  }

  void* allocate(std::size_t bytes, const c10::Stream& stream) {
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const StreamKey key = key_of(stream);
    const std::lock_guard lock(mutex_);
    auto& idle = idle_[{key, bytes}];
    if (idle.empty()) {
      const std::size_t at = used_;
      used_ += bytes;
      TORCH_CHECK(used_ <= mapping_.bytes(), "fake device: its memory is used up");
      blocks_[at] = {.bytes = bytes, .owner = stream, .recorded = {}, .accesses = {}};
      return mapping_.host() + at;
    }
    auto [at, block] = std::move(idle.back());
    idle.pop_back();
    block.accesses.add(key, Kind::write, "new memory");
    char* begin = mapping_.for_kernel(mapping_.host() + at);
    submit(stream, [begin, bytes] { std::memset(begin, 0xFF, bytes); });
    blocks_[at] = std::move(block);
    return mapping_.host() + at;
  }

  void free(void* pointer) {
    const std::size_t at = static_cast<char*>(pointer) - mapping_.host();
    const auto block = std::make_shared<Block>();
    std::set<StreamKey> recorded;
    {
      const std::lock_guard lock(mutex_);
      const auto found = blocks_.find(at);
      *block = std::move(found->second);
      blocks_.erase(found);
      recorded = std::exchange(block->recorded, {});
    }
    for (const StreamKey& stream : recorded) block->accesses.forget(stream);
    const auto last = std::make_shared<std::atomic<std::size_t>>(recorded.size() + 1);
    const auto pass = [this, at, block, last] {
      if (--*last > 0) return;
      const std::lock_guard lock(mutex_);
      idle_[{key_of(block->owner), block->bytes}].emplace_back(at, std::move(*block));
    };
    for (const StreamKey& key : recorded) {
      const c10::Device device(c10::kPrivateUse1, key.first);
      submit(c10::Stream(c10::Stream::UNSAFE, device, key.second), pass);
    }
    pass();
  }

  void record(const void* pointer, const c10::Stream& stream) {
    const std::lock_guard lock(mutex_);
    Block* block = block_of(pointer);
    if (block != nullptr && stream != block->owner) block->recorded.insert(key_of(stream));
  }

  void add(const void* pointer, Kind kind, const c10::Stream& stream, const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (Block* block = block_of(pointer)) block->accesses.add(key_of(stream), kind, what);
  }

  void* for_kernel(const void* pointer) const { return mapping_.for_kernel(pointer); }

 private:
  struct Block {
    std::size_t bytes = 0;
    c10::Stream owner{c10::Stream::DEFAULT, c10::Device(c10::kPrivateUse1, 0)};
    std::set<StreamKey> recorded;
    Accesses accesses;
  };

  Block* block_of(const void* pointer) {
    if (!mapping_.contains(pointer)) return nullptr;
    const std::size_t at = static_cast<const char*>(pointer) - mapping_.host();
    const auto after = blocks_.upper_bound(at);
    return after == blocks_.begin() ? nullptr : &std::prev(after)->second;
  }

  const Mapping mapping_{std::size_t{32} << 30, Mapping::Rights::none, "memory of the device"};
  std::mutex mutex_;  // of what follows
  std::size_t used_ = 0;
  std::map<std::size_t, Block> blocks_;  // by offset
  std::map<std::pair<StreamKey, std::size_t>, std::vector<std::pair<std::size_t, Block>>> idle_;
};

void free_block(void* pointer) { DeviceMemory::get().free(pointer); }

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device device(c10::kPrivateUse1, current_device());
    if (bytes == 0) return {nullptr, device};
    void* pointer = DeviceMemory::get().allocate(bytes, current_stream());
    return {pointer, pointer, free_block, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_block; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    const DeviceMemory& memory = DeviceMemory::get();
    submit(current_stream(), [to = memory.for_kernel(to), from = memory.for_kernel(from), count] {
      std::memcpy(to, from, count);
    });
  }
};
DeviceAllocator allocator;
REGISTER_ALLOCATOR(c10::kPrivateUse1, &allocator);

bool is_of_device(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_privateuseone();
}

bool is_in_pinned_memory(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_cpu() && is_pinned(tensor.const_data_ptr());
}

}  // namespace

c10::Allocator* device_allocator() { return &allocator; }

void record_stream(const void* pointer, const c10::Stream& stream) {
  DeviceMemory::get().record(pointer, stream);
}

void add_access(const at::Tensor& tensor, Kind kind, const c10::Stream& stream,
                const std::string& what) {
  if (!tensor.defined() || tensor.numel() == 0) return;
  if (is_of_device(tensor)) DeviceMemory::get().add(tensor.const_data_ptr(), kind, stream, what);
  if (is_in_pinned_memory(tensor)) add_pinned_access(tensor.const_data_ptr(), key_of(stream), kind);
}

at::Tensor for_kernel(const at::Tensor& tensor) {
  const bool is_device = is_of_device(tensor);
  if (!is_device && !is_in_pinned_memory(tensor)) return tensor;
  const auto options = tensor.options().device(at::kCPU).pinned_memory(false);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  const void* pointer = tensor.const_data_ptr();
  void* memory = is_device ? DeviceMemory::get().for_kernel(pointer) : pinned_for_kernel(pointer);
  return at::from_blob(memory, tensor.sizes(), tensor.strides(), options);
}

}  // namespace fake_device
