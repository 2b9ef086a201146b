#define EDGEPOSE_SIMD_SCALAR
#define EDGEPOSE_SIMD_NAMESPACE scalar
#define EDGEPOSE_SIMD_NAME "scalar"
#include "paf_kernels.inl"
