// Aligned blocks that are kept for reuse: a training step asks for the same sizes again and again, and fresh pages
// from the system cost more than the arithmetic on them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace fastrnn {

void* acquire(size_t bytes);  // 64-byte aligned, contents undefined; throws std::bad_alloc
void release(void* block) noexcept;

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count)
      : data_(static_cast<T*>(acquire(count > SIZE_MAX / sizeof(T) ? SIZE_MAX : count * sizeof(T)))), count_(count) {}
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Buffer() { release(data_); }
  T* data() const { return data_; }
  size_t bytes() const { return data_ ? count_ * sizeof(T) : 0; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

template <class T>
Buffer<T> zeros(size_t count) {
  Buffer<T> b(count);
  for (size_t i = 0; i < count; ++i) b.data()[i] = T{};
  return b;
}

}  // namespace fastrnn
