#define EDGEPOSE_SIMD_NEON
#define EDGEPOSE_SIMD_NAMESPACE neon
#define EDGEPOSE_SIMD_NAME "neon"
#include "paf_kernels.inl"
