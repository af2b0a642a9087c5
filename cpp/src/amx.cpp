#include "amx.hpp"

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastrnn {

#if defined(__linux__) && defined(__x86_64__)
bool amx_is_usable() {
  constexpr unsigned kBfloat16 = 1u << 22, kTile = 1u << 24, kSaved = 1u << 27;  // EDX of leaf 7, ECX of leaf 1
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kSaved)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kBfloat16) || !(d & kTile)) return false;
  constexpr unsigned kTileState = 3u << 17;  // of what the system saves: the tiles and their shape
  unsigned saved, upper;
  __asm__("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
  if ((saved & kTileState) != kTileState) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of Linux
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool amx_is_usable() { return false; }
#endif

}  // namespace fastrnn
