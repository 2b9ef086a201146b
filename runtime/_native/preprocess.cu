// The CUDA kernels of preprocess.cuh: one thread a network pixel, planes (3, height, width) out, in FP32 or FP16.
#include <cuda_fp16.h>

#include "preprocess.cuh"

namespace {

template <typename Value>
__device__ __forceinline__ Value stored(float value);
template <>
__device__ __forceinline__ float stored<float>(float value) { return value; }
template <>
__device__ __forceinline__ __half stored<__half>(float value) { return __float2half_rn(value); }

template <typename Value>
__device__ __forceinline__ void fit(const edgepose::PreprocessParameters& p, Value* out) {
  const int32_t x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= p.width || y >= p.height) return;
  float values[3];
  edgepose::network_pixel(p, x, y, values);
  const int64_t plane = static_cast<int64_t>(p.width) * p.height, at = static_cast<int64_t>(y) * p.width + x;
  for (int c = 0; c < 3; ++c) out[c * plane + at] = stored<Value>(values[c]);
}

}  // namespace

extern "C" __global__ void edgepose_fit_fp32(const edgepose::PreprocessParameters p, float* out) { fit(p, out); }
extern "C" __global__ void edgepose_fit_fp16(const edgepose::PreprocessParameters p, __half* out) { fit(p, out); }
