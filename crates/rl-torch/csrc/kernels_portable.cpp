// The kernels for any processor, and the choice between them all.

#include "kernels.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#define REINS_WIDTH 16
#define REINS_TILE_ROWS 1
#define REINS_TILE_OUTPUTS 2
#define REINS_MOST_ROWS 4
#define REINS_NAME "portable"
#define REINS_TABLE portable_kernels
#include "kernels_table.h"

namespace reins {

namespace {

// The newest instruction set that this processor has, or the one that REINS_KERNELS names.
const Kernels& choose() {
  std::vector<const Kernels*> usable = {&portable_kernels};  // oldest first
#ifdef REINS_X86_KERNELS
  const bool has_fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_fma) {
    usable.push_back(&avx2_kernels);
  }
  if (has_fma && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    usable.push_back(&avx512_kernels);
  }
#endif
  const char* wanted = std::getenv("REINS_KERNELS");
  if (wanted == nullptr || *wanted == 0) {
    return *usable.back();
  }
  std::string names;
  for (const Kernels* table : usable) {
    if (std::strcmp(table->name, wanted) == 0) {
      return *table;
    }
    names += std::string(names.empty() ? "" : ", ") + table->name;
  }
  throw std::runtime_error(std::string("REINS_KERNELS is ") + wanted + "; this processor has " + names);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace reins
