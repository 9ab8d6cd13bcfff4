// Runs a part of a test in a forked child, within a time.
#pragma once

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string_view>
#include <thread>

#include "lgreco/status.h"

namespace lgreco {

/// In a child: ends it as failed unless `call` throws the ConfigError that says why.
inline void require_refused(const char* name, const std::function<void()>& call) {
  try {
    call();
  } catch (const ConfigError& error) {
    if (std::string_view(error.what()).find("made in another process") != std::string_view::npos) {
      return;
    }
    std::fprintf(stderr, "%s throws '%s'\n", name, error.what());
  }
  std::fprintf(stderr, "%s is not refused in a forked child\n", name);
  ::_exit(2);
}

/// Fork here, run `body` in the child, which must return, and wait for its end.
inline void run_in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > limit) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      FAIL() << "the child hangs";
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child ended with " << status;
}

}  // namespace lgreco
