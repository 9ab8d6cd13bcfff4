// States in files. A file is replaced as a whole or not at all.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "lgreco/checkpoint.h"
#include "lgreco/status.h"
#include "src/engine/checkpoint.h"

namespace lgreco {
namespace {

[[noreturn]] void fail(const char* doing, const std::string& path) {
  throw StateError(std::string("[state] cannot ") + doing + " '" + path +
                   "': " + std::strerror(errno));
}

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

/// A file in the making: it gets its name by keep(), and without that it is removed. Only regular
/// files are replaced, and no link is followed, neither at the name nor at the temporary one.
class NewFile {
 public:
  explicit NewFile(const std::string& path) : path_(path), temporary_(path + ".tmp") {
    struct stat before;
    const bool replaces = ::lstat(path.c_str(), &before) == 0;
    if (replaces && !S_ISREG(before.st_mode)) {
      throw StateError("[state] cannot replace '" + path + "': it is not a regular file");
    }
    // A save that was cut short may have left it, and whoever may write here can have planted it.
    ::unlink(temporary_.c_str());
    const int descriptor =
        ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
               replaces ? S_IRUSR | S_IWUSR : 0666);
    if (descriptor < 0) fail("create", temporary_);
    file_.reset(::fdopen(descriptor, "wb"));
    if (file_ == nullptr || (replaces && ::fchmod(descriptor, before.st_mode & 07777) != 0)) {
      const int error = errno;
      if (file_ == nullptr) ::close(descriptor);
      ::unlink(temporary_.c_str());
      errno = error;
      fail("create", temporary_);
    }
  }
  ~NewFile() {
    if (!kept_) ::unlink(temporary_.c_str());
  }

  void append(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;  // perhaps without an address, which fwrite forbids
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
      fail("write", temporary_);
    }
  }

  void keep() {
    if (std::fflush(file_.get()) != 0 || ::fsync(::fileno(file_.get())) != 0) {
      fail("write", temporary_);
    }
    if (std::fclose(file_.release()) != 0) fail("write", temporary_);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("replace", path_);
    kept_ = true;
    sync_folder();
  }

 private:
  // Or the new name may be lost with the power.
  void sync_folder() const {
    const std::size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) fail("open the folder", folder);
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    errno = error;
    // Some file systems cannot, and need not.
    if (result != 0 && errno != EINVAL) fail("write the folder", folder);
  }

  std::string path_, temporary_;
  File file_;
  bool kept_ = false;
};

std::vector<std::byte> read_file(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) fail("open", path);
  struct stat about;
  if (::fstat(::fileno(file.get()), &about) != 0) fail("read", path);
  if (!S_ISREG(about.st_mode)) throw StateError("[state] '" + path + "' is not a file");
  std::vector<std::byte> bytes(static_cast<std::size_t>(about.st_size));
  errno = 0;
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), file.get()));
  if (std::ferror(file.get()) != 0) fail("read", path);
  return bytes;
}

}  // namespace

void save_state(const AggregatorState& state, const std::string& path) {
  NewFile file(path);
  write_state(state, [&](std::span<const std::byte> bytes) { file.append(bytes); });
  file.keep();
}

AggregatorState load_state(const std::string& path) {
  const std::vector<std::byte> bytes = read_file(path);
  try {
    return parse_state(bytes);
  } catch (const StateError& error) {
    throw StateError(std::string(error.what()) + " (in '" + path + "')");
  }
}

}  // namespace lgreco
