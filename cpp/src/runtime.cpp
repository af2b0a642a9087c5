// Detection and choice of the instruction set; see fastrnn/runtime.hpp.
#include "fastrnn/runtime.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "dispatch.hpp"

namespace fastrnn {

// One table per object that CMake built from kernels.cpp.
extern const Kernels kernels_baseline;
#if defined(FASTRNN_HAS_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

namespace {

struct Isa {
  const char* name;
  const Kernels* table;
  bool supported;
};

const std::vector<Isa>& isas() {
  static const std::vector<Isa> list = {
#if defined(FASTRNN_HAS_X86)
      {"avx512", &kernels_avx512,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")},
      {"avx2", &kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
      {FASTRNN_BASELINE, &kernels_baseline, true},
  };
  return list;
}

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
