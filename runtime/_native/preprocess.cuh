// A camera's picture into a network's input: fit, bilinear resize, channel order, (x - mean) / std, layout; one network pixel at a time.
//
// Plain C++ that nvcc compiles too, so the arithmetic of the CUDA kernel is tested on any CPU. Its meaning is that of
// engines/preprocess_reference.py: pixel centres at .5, clamped edges, no antialiasing. Where a network pixel lies between the source's
// pixels is computed in integers, so it is exact whatever the sizes; levels are blended in FP32 and not rounded.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define EDGEPOSE_BOTH __host__ __device__ __forceinline__
#else
#define EDGEPOSE_BOTH inline
#endif

namespace edgepose {

enum PixelFormat : int32_t { kBgr = 0, kRgb = 1, kNv12 = 2, kYuyv = 3 };

// Mirrored by edgepose.engines.cuda_preprocess.KernelParameters, field by field.
struct PreprocessParameters {
  const uint8_t* pixels;  // packed pixels, or the luma plane of NV12
  const uint8_t* chroma;  // the plane of U, V pairs of NV12, else null
  int64_t pitch, chroma_pitch;           // bytes a row
  int32_t format;                        // PixelFormat
  int32_t crop_x, crop_y, crop_w, crop_h;  // the part of the picture that is used, in pixels
  int32_t width, height;                 // of the network's input
  int32_t left, top, fit_w, fit_h;       // where the picture lies in it
  int32_t rgb;                           // the network's channels are RGB, else BGR
  float luma_offset, luma_scale, red_v, green_u, green_v, blue_u;  // levels = (Y - offset) * scale + ...
  float scale[3], bias[3], pad[3];       // in the network's order: level * scale + bias; pad is a finished value
};

struct Bgr {
  float b, g, r;
};

EDGEPOSE_BOTH float level(float value) { return value < 0.0f ? 0.0f : (value > 255.0f ? 255.0f : value); }

EDGEPOSE_BOTH Bgr from_yuv(const PreprocessParameters& p, float y, float u, float v) {
  const float luma = (y - p.luma_offset) * p.luma_scale;
  u -= 128.0f;
  v -= 128.0f;
  return {level(luma + p.blue_u * u), level(luma + p.green_u * u + p.green_v * v), level(luma + p.red_v * v)};
}

// The colour of one source pixel; a chroma sample serves all luma samples that share it.
EDGEPOSE_BOTH Bgr source_pixel(const PreprocessParameters& p, int32_t x, int32_t y) {
  const uint8_t* row = p.pixels + y * p.pitch;
  if (p.format == kNv12) {
    const uint8_t* uv = p.chroma + (y >> 1) * p.chroma_pitch + (x & ~1);
    return from_yuv(p, row[x], uv[0], uv[1]);
  }
  if (p.format == kYuyv) {
    const uint8_t* pair = row + 4 * static_cast<int64_t>(x >> 1);
    return from_yuv(p, pair[(x & 1) * 2], pair[1], pair[3]);
  }
  const uint8_t* pixel = row + 3 * static_cast<int64_t>(x);
  const float first = pixel[0], third = pixel[2];
  return p.format == kBgr ? Bgr{first, static_cast<float>(pixel[1]), third} : Bgr{third, static_cast<float>(pixel[1]), first};
}

// Of `source` pixels spread over `target`, the two that target pixel `at` lies between, and its distance from the first.
struct Taps {
  int32_t first, second;
  float fraction;
};

EDGEPOSE_BOTH Taps taps(int32_t at, int32_t source, int32_t target) {
  // (at + 1/2) * source / target - 1/2, as a fraction of 2 * target
  const int64_t position = (2 * static_cast<int64_t>(at) + 1) * source - target;
  const int64_t whole = 2 * static_cast<int64_t>(target);
  if (position <= 0) return {0, 0, 0.0f};
  const int32_t first = static_cast<int32_t>(position / whole);
  if (first >= source - 1) return {source - 1, source - 1, 0.0f};
  return {first, first + 1, static_cast<float>(position - first * whole) / static_cast<float>(whole)};
}

EDGEPOSE_BOTH float blend(float a, float b, float fraction) { return a + (b - a) * fraction; }

EDGEPOSE_BOTH Bgr blend(const Bgr& a, const Bgr& b, float fraction) {
  return {blend(a.b, b.b, fraction), blend(a.g, b.g, fraction), blend(a.r, b.r, fraction)};
}

// The three values of network pixel (x, y), in the network's channel order.
EDGEPOSE_BOTH void network_pixel(const PreprocessParameters& p, int32_t x, int32_t y, float out[3]) {
  x -= p.left;
  y -= p.top;
  if (x < 0 || y < 0 || x >= p.fit_w || y >= p.fit_h) {
    out[0] = p.pad[0];
    out[1] = p.pad[1];
    out[2] = p.pad[2];
    return;
  }
  const Taps across = taps(x, p.crop_w, p.fit_w), down = taps(y, p.crop_h, p.fit_h);
  const int32_t x0 = p.crop_x + across.first, x1 = p.crop_x + across.second;
  const int32_t y0 = p.crop_y + down.first, y1 = p.crop_y + down.second;
  const Bgr upper = blend(source_pixel(p, x0, y0), source_pixel(p, x1, y0), across.fraction);
  const Bgr lower = blend(source_pixel(p, x0, y1), source_pixel(p, x1, y1), across.fraction);
  const Bgr colour = blend(upper, lower, down.fraction);
  out[0] = (p.rgb ? colour.r : colour.b) * p.scale[0] + p.bias[0];
  out[1] = colour.g * p.scale[1] + p.bias[1];
  out[2] = (p.rgb ? colour.b : colour.r) * p.scale[2] + p.bias[2];
}

}  // namespace edgepose
