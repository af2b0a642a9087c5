// The pool behind memory.hpp: free blocks by size class, at most kKept bytes of them.
#include "memory.hpp"

#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "fastrnn/runtime.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fastrnn {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kHeader = 64;           // in front of each block: its size class
constexpr size_t kKept = size_t(1) << 29;
constexpr size_t kHuge = size_t(1) << 22;  // from here on blocks are worth huge pages
constexpr size_t kHugePage = size_t(1) << 21;

struct Pool {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free;
  size_t kept = 0;
};

class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(size_t bytes) : text_("[fastrnn] not enough memory for " + std::to_string(bytes) + " bytes") {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// Never destroyed: blocks may come back from objects that outlive static destructors.
Pool& pool() {
  static Pool* p = new Pool;
  return *p;
}

#if !defined(_WIN32)
// A child process has no thread that could unlock what another thread of its parent had locked.
const int at_fork = pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); },
                                   [] { pool().mutex.unlock(); });
#endif

// Four classes per power of two: at most a quarter is wasted, and sizes that differ a little share blocks.
size_t size_class(size_t bytes) {
  if (bytes <= 256) return 256;
  size_t step = 64;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

void free_block(void* base) {
#if defined(_WIN32)
  _aligned_free(base);
#else
  std::free(base);
#endif
}

void* new_block(size_t size) {
  const size_t align = size >= kHuge ? kHugePage : kAlign;
  const size_t total = (size + kHeader + align - 1) / align * align;
#if defined(_WIN32)
  void* base = _aligned_malloc(total, align);
#else
  void* base = std::aligned_alloc(align, total);
#endif
  if (!base) throw OutOfMemory(size);
#if defined(__linux__)
  if (size >= kHuge) madvise(base, total, MADV_HUGEPAGE);
#endif
  return base;
}

}  // namespace

void* acquire(size_t bytes) {
  if (bytes > SIZE_MAX / 4) throw OutOfMemory(bytes);
  const size_t size = size_class(bytes);
  void* base = nullptr;
  {
    Pool& p = pool();
    std::lock_guard<std::mutex> lock(p.mutex);
    auto it = p.free.find(size);
    if (it != p.free.end() && !it->second.empty()) {
      base = it->second.back();
      it->second.pop_back();
      p.kept -= size;
    }
  }
  if (!base) base = new_block(size);
  *static_cast<size_t*>(base) = size;
  return static_cast<char*>(base) + kHeader;
}

void release(void* block) noexcept {
  if (!block) return;
  void* base = static_cast<char*>(block) - kHeader;
  const size_t size = *static_cast<size_t*>(base);
  Pool& p = pool();
  try {
    std::lock_guard<std::mutex> lock(p.mutex);
    if (p.kept + size <= kKept) {
      p.free[size].push_back(base);
      p.kept += size;
      return;
    }
  } catch (...) {  // no memory to remember the block: give it back instead
  }
  free_block(base);
}

size_t cached_memory() {
  Pool& p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  return p.kept;
}

void release_memory() {
  Pool& p = pool();
  std::lock_guard<std::mutex> lock(p.mutex);
  for (auto& entry : p.free)
    for (void* base : entry.second) free_block(base);
  p.free.clear();
  p.kept = 0;
}

}  // namespace fastrnn
