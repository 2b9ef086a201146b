#include "paf_kernels.hpp"

namespace edgepose {

#define EDGEPOSE_KERNELS(name) \
    namespace name {           \
    extern const Kernels kKernels; \
    }
EDGEPOSE_KERNELS(avx512)
EDGEPOSE_KERNELS(avx2)
EDGEPOSE_KERNELS(neon)
EDGEPOSE_KERNELS(scalar)

std::vector<const Kernels*> available_kernels() {
    std::vector<const Kernels*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        found.push_back(&avx512::kKernels);
    if (__builtin_cpu_supports("avx2")) found.push_back(&avx2::kKernels);
#elif defined(__aarch64__)
    found.push_back(&neon::kKernels);
#endif
    found.push_back(&scalar::kKernels);
    return found;
}

}  // namespace edgepose
