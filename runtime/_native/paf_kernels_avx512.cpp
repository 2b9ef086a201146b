#define EDGEPOSE_SIMD_AVX512
#define EDGEPOSE_SIMD_NAMESPACE avx512
#define EDGEPOSE_SIMD_NAME "avx512"
#include "paf_kernels.inl"
