// The kernels for any processor, and the choice between them all.

#include "kernels.h"

#define REINS_WIDTH 16
#define REINS_TILE_ROWS 1
#define REINS_TILE_OUTPUTS 2
#define REINS_MOST_ROWS 4
#define REINS_NAME "portable"
#define REINS_TABLE portable_kernels
#include "kernels_table.h"

namespace reins {

const Kernels& kernels() {
  static const Kernels& chosen = []() -> const Kernels& {
#ifdef REINS_X86_KERNELS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
      return avx512_kernels;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return avx2_kernels;
    }
#endif
    return portable_kernels;
  }();
  return chosen;
}

}  // namespace reins
