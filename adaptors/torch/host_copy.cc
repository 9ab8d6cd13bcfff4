#include "adaptors/torch/host_copy.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <thread>

#include "lgreco/status.h"

namespace lgreco {
namespace {

// Polling keeps the deadline, and leaves the core to others: a driver that is asked to wait spins.
constexpr std::chrono::microseconds kPoll(50);

c10::impl::VirtualGuardImpl device_of(const c10::Stream& stream) {
  return c10::impl::VirtualGuardImpl(stream.device_type());
}

// The allocator must not hand the memory to somebody else while this stream may still use it.
void keep_for(const c10::Stream& stream, const at::Tensor& tensor) {
  device_of(stream).recordDataPtrOnStream(tensor.storage().data_ptr(), stream);
}

}  // namespace

CopyChannel::CopyChannel(c10::Device device)
    : stream_(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device)) {}

void CopyChannel::wait_for_current_stream(const at::Tensor& tensor) const {
  c10::Event computed(stream_.device_type());
  computed.record(device_of(stream_).getStream(stream_.device()));
  computed.block(stream_);
  keep_for(stream_, tensor);
}

void CopyChannel::let_current_stream_wait(const at::Tensor& tensor) const {
  const c10::Stream current = device_of(stream_).getStream(stream_.device());
  c10::Event copied(stream_.device_type());
  copied.record(stream_);
  copied.block(current);
  keep_for(current, tensor);
}

std::shared_ptr<CopyChannel> CopyChannels::of(c10::Device device) {
  if (device.is_cpu()) return nullptr;
  const std::lock_guard lock(mutex_);
  std::shared_ptr<CopyChannel>& channel = channels_[device.index()];
  if (!channel) channel = std::make_shared<CopyChannel>(device);
  return channel;
}

std::size_t CopyChannels::bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t bytes = 0;
  for (const auto& [device, channel] : channels_) bytes += channel->memory().bytes();
  return bytes;
}

HostCopy::HostCopy(std::shared_ptr<CopyChannel> channel, const at::Tensor& like)
    : channel_(std::move(channel)),
      block_(channel_->memory().take(like.numel() * like.element_size())),
      computed_(channel_->stream().device_type()),
      fetched_(channel_->stream().device_type()) {
  const auto bytes = static_cast<std::int64_t>(like.numel() * like.element_size());
  host_ = block_.narrow(0, 0, bytes).view(like.scalar_type()).view(like.sizes());
}

HostCopy::~HostCopy() { give_back(); }

void HostCopy::give_back() {
  if (!block_.defined()) return;
  host_.reset();
  channel_->memory().give_back(std::move(block_));
  block_.reset();
}

void HostCopy::fetch(const at::Tensor& tensor) {
  const c10::Stream stream = channel_->stream();
  computed_.record(device_of(stream).getStream(tensor.device()));
  computed_.block(stream);
  const c10::StreamGuard on_stream(stream);
  if (host_.is_pinned()) {
    host_.copy_(tensor, /*non_blocking=*/true);
  } else {
    pageable_source_ = tensor;
  }
  keep_for(stream, tensor);
  fetched_.record(stream);
}

void HostCopy::wait(Deadline deadline) {
  const c10::Stream stream = channel_->stream();
  while (!fetched_.query()) {
    if (Clock::now() >= deadline) {
      throw PeerError("[device] " + stream.device().str() +
                      " did not hand over the gradients within the timeout");
    }
    std::this_thread::sleep_for(kPoll);
  }
  if (pageable_source_.defined()) {  // blocks, for the copy alone: the device is done
    const c10::StreamGuard on_stream(stream);
    host_.copy_(pageable_source_);
    pageable_source_.reset();
  }
}

void HostCopy::store(const at::Tensor& tensor) {
  const c10::Stream stream = channel_->stream();
  {
    const c10::StreamGuard on_stream(stream);
    at::Tensor(tensor).copy_(host_, /*non_blocking=*/host_.is_pinned());
  }
  keep_for(stream, tensor);
  give_back();
}

}  // namespace lgreco
