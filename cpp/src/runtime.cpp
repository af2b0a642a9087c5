// Detection and choice of the instruction set; see fastrnn/runtime.hpp.
#include "fastrnn/runtime.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "amx.hpp"
#include "dispatch.hpp"

namespace fastrnn {

// One table per object that CMake built from kernels.cpp and reduced.cpp.
extern const Kernels kernels_baseline;
extern const ReducedKernels reduced_baseline;
#if defined(FASTRNN_HAS_avx2)
extern const Kernels kernels_avx2;
extern const ReducedKernels reduced_avx2;
#endif
#if defined(FASTRNN_HAS_avx512)
extern const Kernels kernels_avx512;
extern const ReducedKernels reduced_avx512;
#endif
#if defined(FASTRNN_HAS_avx512_vnni)
extern const ReducedKernels reduced_avx512_vnni;
#endif
#if defined(FASTRNN_HAS_avx512_bf16)
extern const ReducedKernels reduced_avx512_bf16;
#endif
#if defined(FASTRNN_HAS_amx)
extern const MatrixKernels amx;
#endif

namespace {

struct Isa {
  const char* name;
  const Kernels* table;
  const ReducedKernels* reduced;
  bool supported;
};

#if defined(FASTRNN_HAS_amx)
// AVX-512's kernels but for the products of matrices.
const Kernels& kernels_amx() {
  static const Kernels table = [] {
    Kernels k = kernels_avx512;
    k.f32.matrices = &amx;
    return k;
  }();
  return table;
}
#endif

const std::vector<Isa>& isas() {
#if defined(FASTRNN_HAS_avx512)
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("fma");
#endif
  static const std::vector<Isa> list = {
#if defined(FASTRNN_HAS_amx)
      {"amx", &kernels_amx(), &reduced_avx512, avx512 && amx_is_usable()},
#endif
#if defined(FASTRNN_HAS_avx512)
      {"avx512", &kernels_avx512, &reduced_avx512, avx512},
#endif
#if defined(FASTRNN_HAS_avx2)
      {"avx2", &kernels_avx2, &reduced_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
      {FASTRNN_BASELINE, &kernels_baseline, &reduced_baseline, true},
  };
  return list;
}

// Tables for reduced precision that this CPU has instructions for, beside that of the instruction set, best first.
struct Native {
  const char* isa;
  const ReducedKernels* table;
};

const std::vector<Native>& natives() {
  static const std::vector<Native> list = [] {
    std::vector<Native> found;
#if defined(FASTRNN_HAS_avx512_bf16)
    if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
      found.push_back({"avx512", &reduced_avx512_bf16});
#endif
#if defined(FASTRNN_HAS_avx512_vnni)
    if (__builtin_cpu_supports("avx512vnni")) found.push_back({"avx512", &reduced_avx512_vnni});
#endif
    return found;
  }();
  return list;
}

std::atomic<int> skipped{0};

std::string names(bool only_supported) {
  std::string text;
  for (const Isa& isa : isas())
    if (isa.supported || !only_supported) text += (text.empty() ? "" : ", ") + std::string(isa.name);
  return text;
}

const Isa& find(const std::string& name, const char* who) {
  for (const Isa& isa : isas())
    if (name == isa.name) {
      if (!isa.supported)
        throw std::invalid_argument(std::string(who) + ": expected one of " + names(true) + " (what this CPU has), got " +
                                    name);
      return isa;
    }
  throw std::invalid_argument(std::string(who) + ": expected one of " + names(false) + ", got '" + name + "'");
}

const Isa& initial() {
  const char* wanted = std::getenv("FASTRNN_ISA");
  if (wanted && *wanted) return find(wanted, "[fastrnn] FASTRNN_ISA");
  for (const Isa& isa : isas())
    if (isa.supported) return isa;
  return isas().back();
}

std::atomic<const Isa*> chosen{nullptr};

const Isa& current() {
  const Isa* isa = chosen.load(std::memory_order_acquire);
  if (!isa) chosen.store(isa = &initial(), std::memory_order_release);
  return *isa;
}

}  // namespace

const Kernels& active_table() { return *current().table; }

const ReducedKernels& reduced_kernels(const std::string& isa) {
  int skip = skipped.load(std::memory_order_relaxed);
  for (const Native& native : natives())
    if (isa == native.isa && skip-- <= 0) return *native.table;
  return *find(isa, "[fastrnn] instruction set").reduced;
}

void skip_native(int tables) { skipped.store(tables, std::memory_order_relaxed); }

std::vector<std::string> native_precisions() {
  const ReducedKernels& kernels = reduced_kernels(active_table().f32.isa);
  std::vector<std::string> list;
  if (kernels.native_bfloat16) list.push_back("bfloat16");
  if (kernels.native_int8) list.push_back("int8");
  return list;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> list;
  for (const Isa& isa : isas())
    if (isa.supported) list.push_back(isa.name);
  return list;
}

std::string current_isa() { return current().name; }

void use_isa(const std::string& name) { chosen.store(&find(name, "[use_isa] name"), std::memory_order_release); }

std::string version() { return FASTRNN_VERSION; }

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#elif defined(_MSC_VER)
  return "msvc " + std::to_string(_MSC_VER);
#else
  return "unknown";
#endif
}

}  // namespace fastrnn
