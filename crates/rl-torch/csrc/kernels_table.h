// The table of one instruction set; REINS_TABLE names it. Included last, by the file of that set.

#include "kernels_vec.h"
// The order matters: each of these uses what stands before it.
#include "kernels_linear_body.h"
#include "kernels_rows_body.h"
#include "kernels_attention_body.h"

namespace reins {

extern const Kernels REINS_TABLE;
const Kernels REINS_TABLE = {
    REINS_NAME,    REINS_TILE_OUTPUTS,     REINS_MOST_ROWS, linear_outputs,
    rms_norm_rows, rms_norm_backward_rows, swiglu_range,    swiglu_backward_range,
    rotary_tokens, attention_heads,        exp_range,
};

}  // namespace reins
