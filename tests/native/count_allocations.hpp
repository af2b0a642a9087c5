// Everything that allocates in a program that includes this, once, is counted.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

static long allocations = 0;

#if defined(__GLIBC__)
// operator new and the library's own calls end here alike
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) noexcept { return ++allocations, __libc_malloc(n); }
void* calloc(size_t n, size_t m) noexcept { return ++allocations, __libc_calloc(n, m); }
void* realloc(void* p, size_t n) noexcept { return ++allocations, __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) noexcept { return ++allocations, __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) noexcept { return ++allocations, __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) noexcept { return ++allocations, (*p = __libc_memalign(a, n)) ? 0 : 12; }
}
#else
void* operator new(size_t n) {
  ++allocations;
  if (void* p = std::malloc(n ? n : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
#endif
