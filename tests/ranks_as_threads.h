// Runs a test body once per rank, each rank a thread of this process.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

/// Rethrows the first exception of any rank, after all have ended.
inline void run_ranks(int size, const std::function<void(std::unique_ptr<Communicator>)>& body) {
  auto communicators = thread_communicators(size);
  std::vector<std::exception_ptr> errors(communicators.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < communicators.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(std::move(communicators[rank]));
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace lgreco
