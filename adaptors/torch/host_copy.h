// A tensor of an accelerator as the engine sees it: its copy in host memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <map>
#include <memory>
#include <mutex>

#include "adaptors/torch/pinned_pool.h"
#include "lgreco/communicator.h"

namespace lgreco {

/// What all copies from and to one device share: a stream of their own, and their host memory.
class CopyChannel {
 public:
  explicit CopyChannel(c10::Device device);

  c10::Stream stream() const { return stream_; }
  /// What is enqueued from here on comes after what the caller's current stream has computed of
  /// `tensor`, and may use it.
  void wait_for_current_stream(const at::Tensor& tensor) const;
  PinnedPool& memory() { return memory_; }
  /// The caller's current stream may use `tensor`: what it does next comes after the copies that
  /// were begun.
  void let_current_stream_wait(const at::Tensor& tensor) const;

 private:
  c10::Stream stream_;
  PinnedPool memory_;
};

/// The channels of all devices that gradients come from. Thread-safe.
class CopyChannels {
 public:
  /// null for the CPU.
  std::shared_ptr<CopyChannel> of(c10::Device device);
  /// Of host memory, on all channels.
  std::size_t bytes() const;

 private:
  mutable std::mutex mutex_;
  std::map<c10::DeviceIndex, std::shared_ptr<CopyChannel>> channels_;
};

/// One copy to the host and back. Nothing blocks but wait(), and what cannot be otherwise where
/// memory could not be pinned.
///
/// Order on the device: fetch() takes what the caller's current stream has computed by then; copies
/// of one channel follow each other; whoever reads what store() wrote waits for the channel's
/// stream. One after the other, from any threads: fetch, wait, use host(), store.
class HostCopy {
 public:
  /// Takes host memory for a tensor of these sizes and this type.
  HostCopy(std::shared_ptr<CopyChannel> channel, const at::Tensor& like);
  /// Gives the memory back.
  ~HostCopy();
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  /// Begins to copy `tensor`, of the sizes and type of `like` and with any strides.
  void fetch(const at::Tensor& tensor);
  /// Until host() holds what was fetched. Throws PeerError at the deadline.
  void wait(Deadline deadline);
  /// Begins to copy host() to `tensor`, and gives the memory back: there is no host() any more.
  void store(const at::Tensor& tensor);

  /// Contiguous, of the sizes and type of `like`.
  const at::Tensor& host() const { return host_; }
  const CopyChannel& channel() const { return *channel_; }

 private:
  void give_back();

  std::shared_ptr<CopyChannel> channel_;
  at::Tensor block_, host_;  // the memory, and what is used of it
  at::Tensor pageable_source_;
  c10::Event computed_, fetched_;
};

}  // namespace lgreco
