// Runs a test body once per rank, each rank a thread of this process.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "lgreco/communicator.h"

namespace lgreco {

using Communicators = std::vector<std::unique_ptr<Communicator>>;

/// `lanes` communicators for each rank. Rethrows the first exception of any rank, after all have
/// ended.
inline void run_ranks_on_lanes(int size, int lanes,
                               const std::function<void(Communicators)>& body) {
  std::vector<Communicators> of_rank(static_cast<std::size_t>(size));
  for (int lane = 0; lane < lanes; ++lane) {
    auto group = thread_communicators(size);
    for (std::size_t rank = 0; rank < group.size(); ++rank) {
      of_rank[rank].push_back(std::move(group[rank]));
    }
  }
  std::vector<std::exception_ptr> errors(of_rank.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < of_rank.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(std::move(of_rank[rank]));
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

/// With one communicator for each rank.
inline void run_ranks(int size, const std::function<void(std::unique_ptr<Communicator>)>& body) {
  run_ranks_on_lanes(size, 1, [&](Communicators lanes) { body(std::move(lanes[0])); });
}

/// Far enough for any test.
inline Deadline soon() { return Clock::now() + std::chrono::seconds(60); }

}  // namespace lgreco
