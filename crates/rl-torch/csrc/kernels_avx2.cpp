// The kernels for processors with AVX2.

#include "kernels.h"

#ifdef REINS_X86_KERNELS
#pragma GCC target("avx2,fma")
#define REINS_WIDTH 32
#define REINS_TILE_ROWS 2
#define REINS_TILE_OUTPUTS 3
#define REINS_MOST_ROWS 32
#define REINS_NAME "AVX2"
#define REINS_TABLE avx2_kernels
#include "kernels_table.h"
#endif
