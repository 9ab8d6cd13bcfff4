#include "tests/fake_device/collectives.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <functional>
#include <map>
#include <vector>

#include "tests/fake_device/device_memory.h"
#include "tests/fake_device/streams.h"

namespace fake_device {
namespace {

using Tensors = std::vector<at::Tensor>;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

/// Flat, for a kernel.
at::Tensor flat(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_privateuseone(), "fake device: a tensor of another device");
  TORCH_CHECK(tensor.is_non_overlapping_and_dense(), "fake device: a tensor with gaps");
  return for_kernel(tensor.as_strided({tensor.numel()}, {1}, tensor.storage_offset()));
}

Tensors flat(const Tensors& tensors) {
  Tensors all;
  for (const at::Tensor& tensor : tensors) all.push_back(flat(tensor));
  return all;
}

class StreamWork final : public c10d::Work {
 public:
  StreamWork(int rank, c10d::OpType type, c10::intrusive_ptr<c10::ivalue::Future> future)
      : Work(rank, type), future_(std::move(future)) {}
  bool isCompleted() override { return future_->completed(); }
  bool isSuccess() const override { return !future_->hasError(); }
  bool wait(std::chrono::milliseconds) override {
    synchronize();
    return true;
  }
  void synchronize() override { future_->waitAndThrow(); }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }

 private:
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

class Collectives final : public c10d::Backend {
 public:
  explicit Collectives(std::vector<c10::intrusive_ptr<c10d::Backend>> gloo)
      : Backend(gloo.at(0)->getRank(), gloo.at(0)->getSize()), gloo_(std::move(gloo)) {}

  const std::string getBackendName() const override { return "fake_collectives"; }

  WorkPointer broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    return enqueue(c10d::OpType::BROADCAST, tensors, tensors,
                   [all = flat(tensors), options](c10d::Backend& gloo) mutable {
                     gloo.broadcast(all, options)->wait();
                   });
  }
  WorkPointer allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    return enqueue(c10d::OpType::ALLREDUCE, tensors, tensors,
                   [all = flat(tensors), options](c10d::Backend& gloo) mutable {
                     gloo.allreduce(all, options)->wait();
                   });
  }
  WorkPointer reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    return enqueue(c10d::OpType::REDUCE, tensors, tensors,
                   [all = flat(tensors), options](c10d::Backend& gloo) mutable {
                     gloo.reduce(all, options)->wait();
                   });
  }
  WorkPointer allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                        const c10d::AllgatherOptions& options) override {
    std::vector<Tensors> flat_outputs;
    Tensors written;
    for (const Tensors& list : outputs) {
      flat_outputs.push_back(flat(list));
      written.insert(written.end(), list.begin(), list.end());
    }
    return enqueue(c10d::OpType::ALLGATHER, inputs, written,
                   [flat_outputs, all = flat(inputs), options](c10d::Backend& gloo) mutable {
                     gloo.allgather(flat_outputs, all, options)->wait();
                   });
  }
  WorkPointer _allgather_base(at::Tensor& output, at::Tensor& input,
                              const c10d::AllgatherOptions& options) override {
    return enqueue(c10d::OpType::_ALLGATHER_BASE, {input}, {output},
                   [to = flat(output), from = flat(input), options](c10d::Backend& gloo) mutable {
                     gloo._allgather_base(to, from, options)->wait();
                   });
  }
  WorkPointer _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                   const c10d::ReduceScatterOptions& options) override {
    return enqueue(c10d::OpType::_REDUCE_SCATTER_BASE, {input}, {output},
                   [to = flat(output), from = flat(input), options](c10d::Backend& gloo) mutable {
                     gloo._reduce_scatter_base(to, from, options)->wait();
                   });
  }
  WorkPointer alltoall_base(at::Tensor& output, at::Tensor& input,
                            std::vector<std::int64_t>& received, std::vector<std::int64_t>& sent,
                            const c10d::AllToAllOptions& options) override {
    return enqueue(c10d::OpType::ALLTOALL_BASE, {input}, {output},
                   [to = flat(output), from = flat(input), received, sent,
                    options](c10d::Backend& gloo) mutable {
                     gloo.alltoall_base(to, from, received, sent, options)->wait();
                   });
  }
  WorkPointer barrier(const c10d::BarrierOptions& options) override {
    return gloo_.at(0)->barrier(options);
  }

 private:
  WorkPointer enqueue(c10d::OpType type, const Tensors& read, const Tensors& written,
                      std::function<void(c10d::Backend&)> collective) {
    const c10::Device device = read.at(0).device();
    const c10::Stream stream = stream_of(device.index());
    c10::Event ready(device.type());
    ready.record(current_stream(device.index()));
    ready.block(stream);
    for (const at::Tensor& tensor : read) use(tensor, Kind::read, stream);
    for (const at::Tensor& tensor : written) use(tensor, Kind::write, stream);
    submit(stream, [gloo = gloo_.at(device.index()), collective = std::move(collective)] {
      collective(*gloo);
    });
    const c10::StreamGuard on_stream(stream);
    auto future = c10::make_intrusive<c10::ivalue::Future>(
        c10::ListType::create(c10::TensorType::get()), std::vector<c10::Device>{device});
    future->markCompleted(at::IValue(written));  // an event on the stream: the host does not wait
    return c10::make_intrusive<StreamWork>(getRank(), type, std::move(future));
  }

  c10::Stream stream_of(c10::DeviceIndex device) {
    const auto found = streams_.find(device);
    return found != streams_.end() ? found->second
                                   : streams_.emplace(device, new_stream(device)).first->second;
  }

  static void use(const at::Tensor& tensor, Kind kind, const c10::Stream& stream) {
    record_stream(tensor.storage().data_ptr().get(), stream);
    add_access(tensor, kind, stream, "a collective");
  }

  std::vector<c10::intrusive_ptr<c10d::Backend>> gloo_;  // of each device
  std::map<c10::DeviceIndex, c10::Stream> streams_;      // its own, of each device
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> collectives_over(
    std::vector<c10::intrusive_ptr<c10d::Backend>> gloo) {
  return c10::make_intrusive<Collectives>(std::move(gloo));
}

}  // namespace fake_device
