// The few vector operations that the parser's kernels need, for AVX-512, AVX2, NEON and plain C++.
//
// A kernel is written once against `Simd` and compiled once per instruction set (EDGEPOSE_SIMD_*). Every operation is one IEEE operation
// per lane, and the build forbids contraction into fused multiply-adds, so all of them give the same bits.
//
// F floats, I 32-bit integers, M a comparison's result; +, -, * and / come from the compiler. Comparisons are false for NaN.
// raised(v, low) is v where v > low, else low; lowered(v, high) is high where v > high, else v: so NaN is raised to `low` and not lowered.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(EDGEPOSE_SIMD_AVX512)
#include <immintrin.h>
namespace edgepose::avx512 {
struct Simd {
    static constexpr int lanes = 16;
    using F = __m512;
    using I = __m512i;
    using M = __mmask16;
    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static F set(float v) { return _mm512_set1_ps(v); }
    static F root(F v) { return _mm512_sqrt_ps(v); }
    static M greater(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
    static M at_least(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
    static M first(int n) { return n >= lanes ? M(0xffff) : M((1u << n) - 1); }
    static std::uint32_t bits(M m) { return m; }
    static M from_bits(std::uint32_t bits) { return static_cast<M>(bits); }
    // value = mantissa * 2^exponent, mantissa in [sqrt(1/2), sqrt(2)); value is positive and normal
    static void split(F value, F& mantissa, F& exponent) {
        const I root = _mm512_set1_epi32(0x3f3504f3), shifted = _mm512_sub_epi32(_mm512_castps_si512(value), root);
        exponent = _mm512_cvtepi32_ps(_mm512_srai_epi32(shifted, 23));
        mantissa = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(shifted, _mm512_set1_epi32(0x007fffff)), root));
    }
    static F select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
    static F raised(F v, F low) { return _mm512_max_ps(v, low); }
    static F lowered(F v, F high) { return _mm512_min_ps(high, v); }
    static I truncate(F v) { return _mm512_cvttps_epi32(v); }
    static F to_float(I v) { return _mm512_cvtepi32_ps(v); }
    static I set_int(int v) { return _mm512_set1_epi32(v); }
    static I add(I a, I b) { return _mm512_add_epi32(a, b); }
    static I times(I a, I b) { return _mm512_mullo_epi32(a, b); }
    static I smaller(I a, I b) { return _mm512_min_epi32(a, b); }
    static I load_int(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
    static void store(std::int32_t* p, I v) { _mm512_storeu_si512(p, v); }
    static void pack(float* p, F v, M m) { _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m, v)); }
    static void pack(std::int32_t* p, I v, M m) { _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m, v)); }
    // left[i] = base[at[i]], right[i] = base[at[i] + 1]: one 64-bit load a lane
    static void neighbours(const float* base, I at, F& left, F& right) {
        const __m512 low = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_castsi512_si256(at), base, 4));
        const __m512 high = _mm512_castpd_ps(_mm512_i32gather_pd(_mm512_extracti64x4_epi64(at, 1), base, 4));
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        left = _mm512_permutex2var_ps(low, even, high);
        right = _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(1)), high);
    }
};
}  // namespace edgepose::avx512

#elif defined(EDGEPOSE_SIMD_AVX2)
#include <immintrin.h>
namespace edgepose::avx2 {
struct Simd {
    static constexpr int lanes = 8;
    using F = __m256;
    using I = __m256i;
    struct M {
        __m256 m;
        M operator|(M o) const { return {_mm256_or_ps(m, o.m)}; }
        M operator&(M o) const { return {_mm256_and_ps(m, o.m)}; }
        M operator~() const { return {_mm256_xor_ps(m, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))}; }
    };
    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static F set(float v) { return _mm256_set1_ps(v); }
    static F root(F v) { return _mm256_sqrt_ps(v); }
    static M greater(F a, F b) { return {_mm256_cmp_ps(a, b, _CMP_GT_OQ)}; }
    static M at_least(F a, F b) { return {_mm256_cmp_ps(a, b, _CMP_GE_OQ)}; }
    static M first(int n) {
        return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))};
    }
    static std::uint32_t bits(M m) { return static_cast<std::uint32_t>(_mm256_movemask_ps(m.m)); }
    static M from_bits(std::uint32_t bits) {
        const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit), bit))};
    }
    static void split(F value, F& mantissa, F& exponent) {
        const I root = _mm256_set1_epi32(0x3f3504f3), shifted = _mm256_sub_epi32(_mm256_castps_si256(value), root);
        exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32(shifted, 23));
        mantissa = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(shifted, _mm256_set1_epi32(0x007fffff)), root));
    }
    static F select(M m, F yes, F no) { return _mm256_blendv_ps(no, yes, m.m); }
    static F raised(F v, F low) { return _mm256_max_ps(v, low); }
    static F lowered(F v, F high) { return _mm256_min_ps(high, v); }
    static I truncate(F v) { return _mm256_cvttps_epi32(v); }
    static F to_float(I v) { return _mm256_cvtepi32_ps(v); }
    static I set_int(int v) { return _mm256_set1_epi32(v); }
    static I add(I a, I b) { return _mm256_add_epi32(a, b); }
    static I times(I a, I b) { return _mm256_mullo_epi32(a, b); }
    static I smaller(I a, I b) { return _mm256_min_epi32(a, b); }
    static I load_int(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
    static void store(std::int32_t* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
    template <class T, class V>
    static void pack(T* p, V v, M m) {
        T all[lanes];
        __builtin_memcpy(all, &v, sizeof all);
        for (std::uint32_t left = bits(m); left; left &= left - 1) *p++ = all[__builtin_ctz(left)];
    }
    static void neighbours(const float* base, I at, F& left, F& right) {
        const auto* pairs = reinterpret_cast<const double*>(base);
        const __m256 low = _mm256_castpd_ps(_mm256_i32gather_pd(pairs, _mm256_castsi256_si128(at), 4));
        const __m256 high = _mm256_castpd_ps(_mm256_i32gather_pd(pairs, _mm256_extracti128_si256(at, 1), 4));
        const __m256 even = _mm256_shuffle_ps(low, high, 0x88), odd = _mm256_shuffle_ps(low, high, 0xdd);
        left = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8));
        right = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8));
    }
};
}  // namespace edgepose::avx2

#elif defined(EDGEPOSE_SIMD_NEON)
#include <arm_neon.h>
namespace edgepose::neon {
struct Simd {
    static constexpr int lanes = 4;
    using F = float32x4_t;
    using I = int32x4_t;
    struct M {
        uint32x4_t m;
        M operator|(M o) const { return {vorrq_u32(m, o.m)}; }
        M operator&(M o) const { return {vandq_u32(m, o.m)}; }
        M operator~() const { return {vmvnq_u32(m)}; }
    };
    static F load(const float* p) { return vld1q_f32(p); }
    static F set(float v) { return vdupq_n_f32(v); }
    static F root(F v) { return vsqrtq_f32(v); }
    static M greater(F a, F b) { return {vcgtq_f32(a, b)}; }
    static M at_least(F a, F b) { return {vcgeq_f32(a, b)}; }
    static M first(int n) {
        const std::int32_t lane[4] = {0, 1, 2, 3};
        return {vcgtq_s32(vdupq_n_s32(n), vld1q_s32(lane))};
    }
    static std::uint32_t bits(M m) {
        const std::uint32_t weight[4] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(m.m, vld1q_u32(weight)));
    }
    static M from_bits(std::uint32_t bits) {
        const std::uint32_t weight[4] = {1, 2, 4, 8};
        return {vtstq_u32(vdupq_n_u32(bits), vld1q_u32(weight))};
    }
    static void split(F value, F& mantissa, F& exponent) {
        const I root = vdupq_n_s32(0x3f3504f3), shifted = vsubq_s32(vreinterpretq_s32_f32(value), root);
        exponent = vcvtq_f32_s32(vshrq_n_s32(shifted, 23));
        mantissa = vreinterpretq_f32_s32(vaddq_s32(vandq_s32(shifted, vdupq_n_s32(0x007fffff)), root));
    }
    static F select(M m, F yes, F no) { return vbslq_f32(m.m, yes, no); }
    static F raised(F v, F low) { return select(greater(v, low), v, low); }
    static F lowered(F v, F high) { return select(greater(v, high), high, v); }
    static I truncate(F v) { return vcvtq_s32_f32(v); }
    static F to_float(I v) { return vcvtq_f32_s32(v); }
    static I set_int(int v) { return vdupq_n_s32(v); }
    static I add(I a, I b) { return vaddq_s32(a, b); }
    static I times(I a, I b) { return vmulq_s32(a, b); }
    static I smaller(I a, I b) { return vminq_s32(a, b); }
    static I load_int(const std::int32_t* p) { return vld1q_s32(p); }
    static void store(float* p, F v) { vst1q_f32(p, v); }
    static void store(std::int32_t* p, I v) { vst1q_s32(p, v); }
    template <class T, class V>
    static void pack(T* p, V v, M m) {
        T all[lanes];
        __builtin_memcpy(all, &v, sizeof all);
        for (std::uint32_t left = bits(m); left; left &= left - 1) *p++ = all[__builtin_ctz(left)];
    }
    static void neighbours(const float* base, I at, F& left, F& right) {
        const float32x4_t low = vcombine_f32(vld1_f32(base + vgetq_lane_s32(at, 0)), vld1_f32(base + vgetq_lane_s32(at, 1)));
        const float32x4_t high = vcombine_f32(vld1_f32(base + vgetq_lane_s32(at, 2)), vld1_f32(base + vgetq_lane_s32(at, 3)));
        left = vuzp1q_f32(low, high);
        right = vuzp2q_f32(low, high);
    }
};
}  // namespace edgepose::neon

#else
namespace edgepose::scalar {
struct Simd {
    static constexpr int lanes = 1;
    using F = float;
    using I = std::int32_t;
    using M = std::uint32_t;  // all bits or none
    static F load(const float* p) { return *p; }
    static F set(float v) { return v; }
    static F root(F v) { return std::sqrt(v); }
    static M greater(F a, F b) { return a > b ? ~0u : 0u; }
    static M at_least(F a, F b) { return a >= b ? ~0u : 0u; }
    static M first(int n) { return n > 0 ? ~0u : 0u; }
    static std::uint32_t bits(M m) { return m & 1; }
    static M from_bits(std::uint32_t bits) { return 0u - (bits & 1); }
    static void split(F value, F& mantissa, F& exponent) {
        std::int32_t shifted;
        __builtin_memcpy(&shifted, &value, sizeof shifted);
        shifted -= 0x3f3504f3;
        exponent = static_cast<F>(shifted >> 23);
        const std::int32_t bits = (shifted & 0x007fffff) + 0x3f3504f3;
        __builtin_memcpy(&mantissa, &bits, sizeof mantissa);
    }
    static F select(M m, F yes, F no) { return m ? yes : no; }
    static F raised(F v, F low) { return v > low ? v : low; }
    static F lowered(F v, F high) { return v > high ? high : v; }
    static I truncate(F v) { return static_cast<I>(v); }
    static F to_float(I v) { return static_cast<F>(v); }
    static I set_int(int v) { return v; }
    static I add(I a, I b) { return a + b; }
    static I times(I a, I b) { return a * b; }
    static I smaller(I a, I b) { return a < b ? a : b; }
    static I load_int(const std::int32_t* p) { return *p; }
    template <class T>
    static void store(T* p, T v) {
        *p = v;
    }
    template <class T>
    static void pack(T* p, T v, M m) {
        if (m) *p = v;
    }
    static void neighbours(const float* base, I at, F& left, F& right) {
        left = base[at];
        right = base[at + 1];
    }
};
}  // namespace edgepose::scalar
#endif
