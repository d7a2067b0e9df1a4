// Switches of libtorch's global context: set, and read back.

#include "shim.h"

#include <ATen/Context.h>

namespace {

// The switches of `at::Context`; the order is that of `Switches` in settings.rs.
struct Switches {
  bool deterministic;
  bool deterministic_warn_only;
  bool tf32_matmul;
  bool tf32_cudnn;
  bool cudnn_deterministic;
  bool cudnn_benchmark;
  bool sdp_flash;
  bool sdp_mem_efficient;
  bool sdp_cudnn;
  bool sdp_math;
};

}  // namespace

extern "C" {

char* reins_set_switches(const Switches* switches) {
  return reins::guard([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(switches->deterministic, switches->deterministic_warn_only);
    context.setAllowTF32CuBLAS(switches->tf32_matmul);
    context.setAllowTF32CuDNN(switches->tf32_cudnn);
    context.setDeterministicCuDNN(switches->cudnn_deterministic);
    context.setBenchmarkCuDNN(switches->cudnn_benchmark);
    context.setSDPUseFlash(switches->sdp_flash);
    context.setSDPUseMemEfficient(switches->sdp_mem_efficient);
    context.setSDPUseCuDNN(switches->sdp_cudnn);
    context.setSDPUseMath(switches->sdp_math);
  });
}

char* reins_get_switches(Switches* switches) {
  return reins::guard([&] {
    const auto& context = at::globalContext();
    *switches = {context.deterministicAlgorithms(), context.deterministicAlgorithmsWarnOnly(),
                 context.allowTF32CuBLAS(),         context.allowTF32CuDNN(),
                 context.deterministicCuDNN(),      context.benchmarkCuDNN(),
                 context.userEnabledFlashSDP(),     context.userEnabledMemEfficientSDP(),
                 context.userEnabledCuDNNSDP(),     context.userEnabledMathSDP()};
  });
}

}  // extern "C"
