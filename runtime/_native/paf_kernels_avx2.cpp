#define EDGEPOSE_SIMD_AVX2
#define EDGEPOSE_SIMD_NAMESPACE avx2
#define EDGEPOSE_SIMD_NAME "avx2"
#include "paf_kernels.inl"
