// ATen on the fake device: shapes now, by the operator's meta kernel; values when the stream gets
// there, by its CPU kernel.

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "tests/fake_device/device_memory.h"
#include "tests/fake_device/pinned_memory.h"
#include "tests/fake_device/streams.h"

namespace fake_device {
namespace {

using Stack = torch::jit::Stack;

at::Tensor on_meta(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return at::empty_strided(tensor.sizes(), tensor.strides(),
                           tensor.options().device(at::kMeta).pinned_memory(false));
}

/// `value` with each tensor in it replaced by `tensor(it)`, and each device by `device`.
template <typename Convert>
c10::IValue converted(const c10::IValue& value, c10::DeviceType device, const Convert& tensor) {
  if (value.isTensor()) return tensor(value.toTensor());
  if (value.isDevice()) return c10::Device(device);
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& one : value.toTensorVector()) list.push_back(tensor(one));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor> one : value.toOptionalTensorList()) {
      list.push_back(one ? std::optional(tensor(*one)) : std::nullopt);
    }
    return list;
  }
  return value;
}

Stack for_meta(const Stack& arguments) {
  Stack stack;
  for (const c10::IValue& one : arguments) stack.push_back(converted(one, at::kMeta, on_meta));
  return stack;
}

template <typename Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  converted(value, at::kCPU, [&](const at::Tensor& tensor) {
    if (tensor.defined()) visit(tensor);
    return tensor;
  });
}

c10::Device device_of(const c10::FunctionSchema& schema, const Stack& arguments) {
  std::optional<c10::Device> device;
  for (const c10::IValue& value : arguments) {
    for_each_tensor(value, [&](const at::Tensor& tensor) {
      if (!device && tensor.is_privateuseone()) device = tensor.device();
    });
    if (!device && value.isDevice() && value.toDevice().is_privateuseone()) {
      device = value.toDevice();
    }
  }
  TORCH_CHECK(device, "fake device: no tensor in the arguments of ", schema.name());
  return *device;
}

bool writes(const c10::Argument& argument) {
  return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
}

/// For each result the argument that it is, if it is one that the operator writes to.
std::vector<std::optional<std::size_t>> written_arguments(const c10::FunctionSchema& schema) {
  std::vector<std::optional<std::size_t>> written;
  for (const c10::Argument& result : schema.returns()) {
    std::optional<std::size_t> argument;
    for (std::size_t i = 0; i < schema.arguments().size(); ++i) {
      const c10::Argument& one = schema.arguments()[i];
      if (writes(one) && result.alias_info() && *one.alias_info() == *result.alias_info()) {
        argument = i;
      }
    }
    written.push_back(argument);
  }
  return written;
}

bool is_view(const c10::FunctionSchema& schema) {
  return std::ranges::any_of(schema.returns(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

// Of the first argument; the meta kernel says which part.
c10::IValue view(const c10::OperatorHandle& op, const Stack& arguments) {
  TORCH_CHECK(op.schema().returns().size() == 1 && arguments[0].isTensor(),
              "fake device: the view ", op.schema().name(), " is not supported");
  const at::Tensor base = arguments[0].toTensor();
  Stack meta = for_meta(arguments);
  op.callBoxed(&meta);
  return converted(meta[0], at::kCPU, [&](const at::Tensor& part) {
    return at::native::as_strided_tensorimpl(base, part.sizes(), part.strides(),
                                             base.storage_offset() + part.storage_offset());
  });
}

/// What the operator returns: arguments that it writes to, and new memory for the rest.
std::vector<c10::IValue> results_of(const c10::OperatorHandle& op, const Stack& arguments,
                                    c10::Device device) {
  const auto& schema = op.schema();
  const auto written = written_arguments(schema);
  const bool is_out = std::ranges::any_of(schema.arguments(), &c10::Argument::is_out);
  const bool is_any_new = std::ranges::any_of(written, [](const auto& one) { return !one; });
  Stack meta;
  if (is_out || is_any_new) {
    meta = for_meta(arguments);
    op.callBoxed(&meta);
  }
  std::vector<c10::IValue> results;
  for (std::size_t i = 0; i < written.size(); ++i) {
    if (!written[i]) {
      results.push_back(converted(meta[i], device.type(), [&](const at::Tensor& like) {
        if (!like.defined()) return like;
        return at::empty_strided(like.sizes(), like.strides(), like.options().device(device));
      }));
      continue;
    }
    const c10::IValue& result = arguments[*written[i]];
    if (is_out && result.isTensor()) {
      at::native::resize_output(result.toTensor(), meta[i].toTensor().sizes());
    }
    results.push_back(result);
  }
  return results;
}

void copy_to(const c10::IValue& to, const c10::IValue& from) {
  if (to.isTensor() && to.toTensor().defined()) to.toTensor().copy_(from.toTensor());
  if (!to.isTensorList()) return;
  const auto targets = to.toTensorVector(), sources = from.toTensorVector();
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].copy_(sources[i]);
}

// A number of the host is read at once, as an argument of the kernel.
at::Tensor for_launch(const at::Tensor& tensor) {
  return tensor.defined() && tensor.is_cpu() && tensor.dim() == 0 ? tensor.clone()
                                                                  : for_kernel(tensor);
}

// Any operator.
void launch(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const std::size_t count = schema.arguments().size();
  const Stack arguments(stack->end() - static_cast<std::ptrdiff_t>(count), stack->end());
  if (is_view(schema)) {
    c10::IValue result = view(op, arguments);
    torch::jit::drop(*stack, count);
    stack->push_back(std::move(result));
    return;
  }
  const c10::Device device = device_of(schema, arguments);
  const c10::DeviceGuard on_device(device);
  const c10::Stream stream = current_stream();
  const auto written = written_arguments(schema);
  std::vector<c10::IValue> results = results_of(op, arguments, device);

  Stack kernel_arguments;
  for (std::size_t i = 0; i < count; ++i) {
    const Kind kind = writes(schema.arguments()[i]) ? Kind::write : Kind::read;
    for_each_tensor(arguments[i], [&](const at::Tensor& tensor) {
      add_access(tensor, kind, stream, schema.name());
    });
    kernel_arguments.push_back(converted(arguments[i], at::kCPU, for_launch));
  }
  std::vector<c10::IValue> outputs;  // of new memory
  for (std::size_t i = 0; i < results.size(); ++i) {
    outputs.push_back(written[i] ? c10::IValue() : converted(results[i], at::kCPU, for_kernel));
    if (written[i]) continue;
    for_each_tensor(results[i], [&](const at::Tensor& tensor) {
      add_access(tensor, Kind::write, stream, schema.name());
    });
  }
  submit(stream, [op, kernel_arguments, outputs] {
    Stack kernel_stack = kernel_arguments;
    op.callBoxed(&kernel_stack);
    for (std::size_t i = 0; i < outputs.size(); ++i) copy_to(outputs[i], kernel_stack[i]);
  });
  torch::jit::drop(*stack, count);
  for (c10::IValue& result : results) stack->push_back(std::move(result));
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard on_device(c10::device_or_default(device));
  return at::detail::empty_generic(sizes, device_allocator(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard on_device(c10::device_or_default(device));
  return at::detail::empty_strided_generic(sizes, strides, device_allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// The streams of both devices wait for each other, as with CUDA.
void copy_between_devices(const at::Tensor& from, const at::Tensor& to) {
  const c10::Stream source = current_stream(from.device().index());
  const c10::Stream target = current_stream(to.device().index());
  Event ready, done;
  ready.record(target);
  ready.block(source);
  add_access(from, Kind::read, source, "a copy");
  add_access(to, Kind::write, source, "a copy");
  submit(source, [from = for_kernel(from), to = for_kernel(to)] { to.copy_(from); });
  done.record(source);
  done.block(target);
}

// Between the device and the host, mostly. Only pinned memory is read and written when the stream
// gets there; other memory at once, as a driver does.
at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (from.is_privateuseone() && to.is_privateuseone() && from.device() != to.device()) {
    copy_between_devices(from, to);
    return to;
  }
  const c10::Device device = from.is_privateuseone() ? from.device() : to.device();
  const c10::DeviceGuard on_device(device);
  const c10::Stream stream = current_stream();
  const at::Tensor& host = from.is_privateuseone() ? to : from;
  const bool is_async = !host.is_cpu() || (non_blocking && is_pinned(host.const_data_ptr()));
  const at::Tensor source = from.is_cpu() && !is_async ? from.clone() : from;
  add_access(source, Kind::read, stream, "a copy");
  add_access(to, Kind::write, stream, "a copy");
  submit(stream, [from = for_kernel(source), to = for_kernel(to),
                  host = is_async && host.is_cpu() ? host : source] { to.copy_(from); });
  if (to.is_cpu() && !is_async) synchronize(stream);
  return to;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  const at::Tensor host = at::empty(self.sizes(), self.options().device(at::kCPU));
  copy_from(self, host, /*non_blocking=*/false);
  return host.item();
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef sizes,
                         std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard on_device(self.device());
  const std::size_t bytes =
      at::detail::computeStorageNbytesContiguous(sizes, self.element_size(), self.storage_offset());
  auto* storage = self.storage().unsafeGetStorageImpl();
  if (bytes > storage->nbytes()) {  // what was there is lost
    storage->set_data_ptr_noswap(device_allocator()->allocate(bytes));
    storage->set_nbytes(bytes);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  if (format) self.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage storage, std::int64_t offset,
                        at::IntArrayRef sizes, at::IntArrayRef strides) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  self.unsafeGetTensorImpl()->set_storage_offset(offset);
  self.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return self;
}

void record_tensor(at::Tensor& self, at::Stream stream) {
  record_stream(self.storage().data_ptr().get(), stream);
}

c10::OperatorHandle operator_called(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

// ATen asks a device that it does not know for its own convolution.
void convolution(const c10::OperatorHandle&, Stack* stack) {
  launch(operator_called("aten::convolution"), stack);
}

void convolution_backward(const c10::OperatorHandle&, Stack* stack) {
  const at::Tensor weight = (stack->end() - 8)->toTensor();
  const std::vector<std::int64_t> bias_sizes{weight.size(0)};
  stack->insert(stack->end() - 7, c10::IValue(bias_sizes));
  launch(operator_called("aten::convolution_backward"), stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&launch>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  // Else these would be made of other operators, whose last bits are not those of the CPU.
  for (const char* name : {"native_group_norm", "native_layer_norm"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&launch>());
  }
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("resize_", resize);
  library.impl("set_.source_Storage_storage_offset", set_storage);
  library.impl("_copy_from", copy_from);
  library.impl("_local_scalar_dense", local_scalar_dense);
  library.impl("record_stream", record_tensor);
  library.impl("convolution_overrideable",
               torch::CppFunction::makeFromBoxedFunction<&convolution>());
  library.impl("convolution_backward_overrideable",
               torch::CppFunction::makeFromBoxedFunction<&convolution_backward>());
}

}  // namespace
}  // namespace fake_device
