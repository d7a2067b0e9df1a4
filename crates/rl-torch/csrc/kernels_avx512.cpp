// The kernels for processors with AVX-512.

#include "kernels.h"

#ifdef REINS_X86_KERNELS
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")
#define REINS_WIDTH 64
#define REINS_TILE_ROWS 4
#define REINS_TILE_OUTPUTS 6
#define REINS_MOST_ROWS INT64_MAX
#define REINS_NAME "AVX-512"
#define REINS_TABLE avx512_kernels
#include "kernels_table.h"
#endif
